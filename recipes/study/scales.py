"""Scales of studies: the same study at the paper's size, or at one that a laptop can run.

A study describes its table in the paper's terms (DeiT's --lr, strides at patch size 16, 300 epochs). A scale is a file under
studies/scales/; it replaces recipes and converts the study's values:

    description: scikit-learn's digits on one CPU core
    train_images: 1151
    num_classes: 10
    seeds: [0, 1, 2]                      # levels of the axis `seed`; default: those of the study
    datasets:                             # of recipes that have other images
      recipes/imagenet21k/early_conv.yaml: {train_images: 14197122, num_classes: 21841}
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
          optim.name: {values: {sgd: {set: {optim.name: sgd}, factors: {optim.lr: 0.125}}}}

`times` multiplies a number. `values` maps a value, written as a level's name, to another value or to a level (`sections`: several
keys, factors on them); a value that is not listed is unchanged, or an error with `strict: true`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Discriminator, Tag, WithJsonSchema
from pydantic_core import PydanticCustomError

from common.config import problems_error, read
from common.config_messages import TYPE
from common.config_types import AtLeastOne, Positive, Seed
from common.errors import UserError, did_you_mean
from common.yaml_text import parse_yaml, reason_of
from recipes.study.scale_rules import ScaleRule, find_level, name_value
from recipes.study.sections import Factors, FileSection, LevelEntry, Settings, ShortLevel, level_entry, level_form
from recipes.study.specification import REPOSITORY, STUDIES

SCALES = STUDIES / "scales"
PAPER_SCALE = "imagenet1k"
"""The scale in whose terms the papers' studies are written."""


def _check_recipe(name: str) -> str:
    """Return the path of a recipe from the repository's root; raise if there is none."""
    try:
        is_file = (REPOSITORY / name).is_file()
    except (OSError, ValueError):
        is_file = False
    if not is_file:
        raise PydanticCustomError(TYPE, "no such file. Give its path from the repository's root.")
    return name


def _rule_value_form(value: Any) -> str:
    """Return what a rule replaces a value by: another value, or a level."""
    return level_form(value) or "value"


RecipeFile = Annotated[str, AfterValidator(_check_recipe)]
"""Path of a recipe from the repository's root."""
AnyValue = Annotated[Any, WithJsonSchema({"not": {"type": "object"}})]
RuleValue = Annotated[
    Annotated[LevelEntry, Tag("entry")] | Annotated[ShortLevel, Tag("settings")] | Annotated[AnyValue, Tag("value")],
    Discriminator(_rule_value_form),
]
"""What replaces a value: another value, or a level."""


class RuleEntry(FileSection):
    """Rule for the values of a key."""

    times: float | None = None
    """Factor on numbers that `values` does not list."""
    values: dict[str, RuleValue] = {}
    """Another value, or a level, by value, written as the name of a level."""
    strict: bool = False
    """Whether a value that `values` does not list is an error."""


class ScaledRecipeEntry(FileSection):
    """Recipe that replaces another one."""

    recipe: RecipeFile
    """Recipe that is run instead, from the repository's root."""
    set: Settings = {}
    """Values of its keys, of lower precedence than the study's settings."""
    factors: Factors = {}
    """Factors by recipe key: each multiplies the value that is set for the key."""
    keys: dict[str, RuleEntry] = {}
    """Rules for the values that the study sets, by key."""


class DatasetEntry(FileSection):
    """Size of a dataset."""

    train_images: AtLeastOne
    """Number of training images."""
    num_classes: AtLeastOne
    """Number of classes."""


class ScaleFile(FileSection):
    """File of a scale."""

    description: str
    """What the scale is, in a line."""
    train_images: AtLeastOne | None = None
    """Number of training images; none: the data are opened and counted."""
    num_classes: AtLeastOne | None = None
    """Number of classes; none: the data are opened and counted."""
    datasets: dict[RecipeFile, DatasetEntry] = {}
    """Sizes of the datasets of recipes whose images are others than those of the scale, by recipe."""
    seeds: tuple[Seed, ...] = ()
    """Levels of the axis of the repeats; empty: those of the study."""
    macs_per_second: Positive | None = None
    """Rate of a device, used by `plan` until a finished run gives a measured one."""
    keep: dict[str, tuple[Any, ...]] = {}
    """Values of a column or axis that are kept, by its name; rows with other values are excluded."""
    recipes: dict[RecipeFile, ScaledRecipeEntry] = {}
    """What replaces each recipe, from the repository's root."""
    extends: str | None = None
    """Scale whose recipes this one adds to."""


@dataclass(frozen=True)
class ScaledRecipe:
    """Recipe that replaces another one at a scale, with the rules for the study's settings."""

    recipe: Path
    settings: Mapping[str, Any]
    scale_rules: Mapping[str, ScaleRule]
    factors: Mapping[str, float] = field(default_factory=dict)


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
    datasets: Mapping[Path, tuple[int, int]] = field(default_factory=dict)
    """Numbers of training images and classes of recipes that have a dataset of their own."""

    def dataset(self, recipe: Path) -> tuple[int, int] | None:
        """Return the numbers of training images and classes of a recipe; None if the scale declares none."""
        if (own := self.datasets.get(recipe.resolve())) is not None:
            return own
        return (self.train_images, self.num_classes) if self.train_images and self.num_classes else None

    def replacement(self, recipe: Path) -> ScaledRecipe | None:
        """Return the replacement of a recipe at this scale, or None if the recipe is unchanged."""
        return self.recipes.get(recipe.resolve())

    def keeps(self, columns: Mapping[str, Any]) -> bool:
        """Return whether a row with these columns is kept."""
        return all(find_level(columns[name], kept) for name, kept in self.keep.items() if name in columns)


def scale_names() -> list[str]:
    """Return the names of all scales."""
    return sorted(path.stem for path in SCALES.glob("*.yaml"))


def load_scale(name: str, extended_by: tuple[str, ...] = ()) -> Scale:
    """Return the scale `name`; raise one UserError that lists all problems of its file."""
    if name not in scale_names():
        names = scale_names()
        raise UserError(f"scale {name}: unknown.{did_you_mean(name, names)} Known scales: {', '.join(names)}.")
    if name in extended_by:
        raise UserError(f"scale {name}: extends itself through {', '.join(extended_by)}. Remove the cycle.")
    try:
        content = parse_yaml((SCALES / f"{name}.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"scale {name}: not readable as YAML: {reason_of(error)}") from error
    if not isinstance(content, dict):
        raise UserError(f"scale {name}: must be a mapping with description and recipes.")
    file, problems = read(ScaleFile, content)
    if file is None:
        raise problems_error(f"scale {name}", problems)
    extended = load_scale(file.extends, (*extended_by, name)) if file.extends else None
    recipes, datasets = (dict(extended.recipes), dict(extended.datasets)) if extended else ({}, {})
    for recipe, size in file.datasets.items():
        datasets[(REPOSITORY / recipe).resolve()] = (size.train_images, size.num_classes)
    for replaced, entry in file.recipes.items():
        rules = {key: _scale_rule(rule) for key, rule in entry.keys.items()}
        recipes[(REPOSITORY / replaced).resolve()] = ScaledRecipe(
            REPOSITORY / entry.recipe, entry.set, rules, entry.factors
        )
    return Scale(
        name,
        " ".join(file.description.split()),
        file.train_images,
        file.num_classes,
        file.seeds,
        file.macs_per_second,
        {column: tuple(map(name_value, values)) for column, values in file.keep.items()},
        recipes,
        datasets,
    )


def _scale_rule(entry: RuleEntry) -> ScaleRule:
    """Return a rule of a scale's file."""
    levels = {
        value: level_entry(other) for value, other in entry.values.items() if isinstance(other, dict | LevelEntry)
    }
    return ScaleRule(
        entry.times,
        entry.values | {value: level.set for value, level in levels.items()},
        entry.strict,
        {value: level.factors for value, level in levels.items() if level.factors},
        {value: level.starts_from for value, level in levels.items() if level.starts_from},
    )
