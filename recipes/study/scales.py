"""Scales of studies: the same study at the paper's size, or at one that a laptop can run.

A study describes its table in the paper's terms (DeiT's --lr, strides at patch size 16, 300 epochs). A scale is a file under
studies/scales/; it replaces recipes and converts the study's values:

    description: scikit-learn's digits on one CPU core
    train_images: 1151
    num_classes: 10
    seeds: [0, 1, 2]                      # levels of the axis `seed`; default: those of the study
    macs_per_second: 5.0e9                # of one device; used by `plan` until a finished run gives a measured rate
    keep: {network: [vit_p_1gf]}          # values of a column or axis that are kept; rows with other values are excluded
    recipes:
      recipes/imagenet1k/deit_small.yaml:
        recipe: recipes/digits/finetune.yaml
        set: {train.epochs: 15}           # lower precedence than the study's settings
        keys:                             # rules for the values that the study sets
          optim.lr: {times: 4}
          model.stem_strides: {values: {"[2, 1, 1, 8]": [2, 1, 1, 2]}}
          data.fraction: {values: {"0.1": {data.fraction: 0.1, train.epochs: 60}}}

`times` multiplies a number. `values` maps a value, written as a level's name, to another value or to several keys; a value that is
not listed is unchanged, or an error with `strict: true`. A key that ends in `*` multiplies the value that the study sets for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import UserError, did_you_mean
from recipes.study.scale_rules import ScaleRule, format_level
from recipes.study.sections import check_section, named_entries, read_yaml
from recipes.study.specification import REPOSITORY, STUDIES

SCALES = STUDIES / "scales"
PAPER_SCALE = "imagenet1k"
"""The scale in whose terms the papers' studies are written."""


@dataclass(frozen=True)
class ScaledRecipe:
    """Recipe that replaces another one at a scale, with the rules for the study's settings."""

    recipe: Path
    settings: Mapping[str, Any]
    scale_rules: Mapping[str, ScaleRule]


@dataclass(frozen=True)
class Scale:
    """A size at which studies can run."""

    name: str
    description: str
    train_images: int | None = None
    num_classes: int | None = None
    seeds: tuple[int, ...] = ()
    macs_per_second: float | None = None
    keep: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    recipes: Mapping[Path, ScaledRecipe] = field(default_factory=dict)

    def replacement(self, recipe: Path) -> ScaledRecipe | None:
        """Return the replacement of a recipe at this scale, or None if the recipe is unchanged."""
        return self.recipes.get(recipe.resolve())


def scale_names() -> list[str]:
    """Return the names of all scales."""
    return sorted(path.stem for path in SCALES.glob("*.yaml"))


def load_scale(name: str) -> Scale:
    """Return the scale `name`; raise one UserError that lists all problems of its file."""
    if name not in scale_names():
        names = scale_names()
        raise UserError(f"scale {name}: unknown.{did_you_mean(name, names)} Known scales: {', '.join(names)}.")
    mapping = read_yaml((SCALES / f"{name}.yaml").read_text(encoding="utf-8"))
    problems: list[str] = []
    allowed = ("description", "train_images", "num_classes", "seeds", "macs_per_second", "keep", "recipes", "extends")
    fields = check_section(mapping, "", allowed, ("description",), problems)
    recipes = {}
    if fields.get("extends"):
        recipes = dict(load_scale(str(fields["extends"])).recipes)
    for replaced, entry in named_entries(fields["recipes"], "recipes", problems) if fields.get("recipes") else []:
        recipes[(REPOSITORY / replaced).resolve()] = _build_recipe(replaced, entry, problems)
    if problems:
        raise UserError(f"scale {name}: {len(problems)} problems\n" + "\n".join(f"  {line}" for line in problems))
    rate = fields.get("macs_per_second")
    return Scale(
        name,
        " ".join(str(fields["description"]).split()),
        fields.get("train_images"),
        fields.get("num_classes"),
        tuple(fields.get("seeds", ())),
        None if rate is None else float(rate),
        {column: tuple(map(format_level, values)) for column, values in fields.get("keep", {}).items()},
        recipes,
    )


def _build_recipe(replaced: str, entry: Any, problems: list[str]) -> ScaledRecipe:
    """Return one entry of `recipes`."""
    where = f"recipes.{replaced}"
    fields = check_section(entry, where, ("recipe", "set", "keys"), ("recipe",), problems)
    path = REPOSITORY / str(fields.get("recipe", ""))
    problems += [f"{where}: {file}: no such file." for file in (REPOSITORY / replaced, path) if not file.is_file()]
    scale_rules = {}
    for key, rule in named_entries(fields["keys"], f"{where}.keys", problems) if fields.get("keys") else []:
        options = check_section(rule, f"{where}.keys.{key}", ("times", "values", "strict"), (), problems)
        values = {format_level(value): other for value, other in options.get("values", {}).items()}
        scale_rules[key] = ScaleRule(options.get("times"), values, bool(options.get("strict", False)))
    return ScaledRecipe(path, fields.get("set", {}), scale_rules)
