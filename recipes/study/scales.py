"""Owns the scales of studies: one study, at the paper's size or at one that a laptop runs.

A study says what its table varies in the paper's own terms (DeiT's --lr, strides at patch 16, 300 epochs). A scale, a file
under studies/scales/, says which recipe stands for which, and what the study's values become there:

    told: scikit-learn's digits on one CPU core
    train_images: 1151
    num_classes: 10
    seeds: [0, 1, 2]                      # levels of the axis `seed`; without it the study's own
    multiply_adds_per_second: 5.0e9       # of one device, where `plan` has no run to measure it on
    keep: {network: [vit_p_1gf]}          # values that this scale keeps of a column or axis; rows with others are left out
    recipes:
      recipes/imagenet1k/deit_small.yaml:
        recipe: recipes/digits/finetune.yaml
        set: {train.epochs: 15}           # below what the study sets
        keys:                             # what a value that the study sets becomes
          optim.lr: {times: 4}
          model.stem_strides: {values: {"[2, 1, 1, 8]": [2, 1, 1, 2]}}
          data.fraction: {values: {"0.1": {data.fraction: 0.1, train.epochs: 60}}}

`times` multiplies a number. `values` names a value by how it is written, and gives another one, or several keys; a value that is
not named stays as it is, unless `strict: true` refuses it. A key that ends in `*` multiplies what the study sets for the key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import nearest
from common.errors import UserError
from recipes.study.scale_rules import Translation, write_level
from recipes.study.sections import named, read_yaml, section
from recipes.study.specification import REPOSITORY, STUDIES

SCALES = STUDIES / "scales"
PAPER_SCALE = "imagenet1k"
"""The scale in whose terms the papers' studies are written."""


@dataclass(frozen=True)
class ScaledRecipe:
    """The recipe that stands for another one, and how settings change with it."""

    recipe: Path
    settings: Mapping[str, Any]
    translations: Mapping[str, Translation]


@dataclass(frozen=True)
class Scale:
    """A size at which studies run."""

    name: str
    told: str
    train_images: int | None = None
    num_classes: int | None = None
    seeds: tuple[int, ...] = ()
    multiply_adds_per_second: float | None = None
    keep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipes: Mapping[Path, ScaledRecipe] = field(default_factory=dict)

    def stands_for(self, recipe: Path) -> ScaledRecipe | None:
        """Return what stands for a recipe at this scale, or none where it stays."""
        return self.recipes.get(recipe.resolve())


def scale_names() -> list[str]:
    """Return the names of the scales there are."""
    return sorted(path.stem for path in SCALES.glob("*.yaml"))


def load_scale(name: str) -> Scale:
    """Return the scale called `name`; raise one UserError that lists everything wrong with its file."""
    if name not in scale_names():
        names = scale_names()
        raise UserError(f"scale {name}: unknown.{nearest(name, names)} There are {', '.join(names)}.")
    mapping = read_yaml((SCALES / f"{name}.yaml").read_text(encoding="utf-8"))
    problems: list[str] = []
    allowed = ("told", "train_images", "num_classes", "seeds", "multiply_adds_per_second", "keep", "recipes", "extends")
    fields = section(mapping, "", allowed, ("told",), problems)
    recipes = {}
    if fields.get("extends"):
        recipes = dict(load_scale(str(fields["extends"])).recipes)
    for replaced, entry in named(fields.get("recipes", {}), "recipes", problems) if fields.get("recipes") else []:
        recipes[(REPOSITORY / replaced).resolve()] = _build_recipe(replaced, entry, problems)
    if problems:
        raise UserError(f"scale {name}: {len(problems)} wrong\n" + "\n".join(f"  {line}" for line in problems))
    rate = fields.get("multiply_adds_per_second")
    return Scale(
        name,
        " ".join(str(fields["told"]).split()),
        fields.get("train_images"),
        fields.get("num_classes"),
        tuple(fields.get("seeds", ())),
        None if rate is None else float(rate),
        {column: tuple(map(write_level, values)) for column, values in fields.get("keep", {}).items()},
        recipes,
    )


def _build_recipe(replaced: str, entry: Any, problems: list[str]) -> ScaledRecipe:
    """Return one entry of `recipes`."""
    where = f"recipes.{replaced}"
    fields = section(entry, where, ("recipe", "set", "keys"), ("recipe",), problems)
    path = REPOSITORY / str(fields.get("recipe", ""))
    problems += [f"{where}: {one}: no such file." for one in (REPOSITORY / replaced, path) if not one.is_file()]
    translations = {}
    for key, told in named(fields["keys"], f"{where}.keys", problems) if fields.get("keys") else []:
        parts = section(told, f"{where}.keys.{key}", ("times", "values", "strict"), (), problems)
        values = {write_level(one): other for one, other in parts.get("values", {}).items()}
        translations[key] = Translation(parts.get("times"), values, bool(parts.get("strict", False)))
    return ScaledRecipe(path, fields.get("set", {}), translations)
