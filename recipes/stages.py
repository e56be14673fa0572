"""Registry of the stages that studies run: config class, cost function, and what to preload for each."""

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from common.config import defaults, flatten, load, to_mapping
from common.errors import UserError, did_you_mean
from common.paths import PATH_KEYS, without_final_slash


@dataclass(frozen=True)
class StageSpec:
    """A registered stage. `config`, `cost` and `preload` are relative to the stage's package and imported when they are needed."""

    config: str
    """Config class of the stage's recipes, as `module:Class`."""
    cost: str
    """Function that returns a run's `Cost`, as `module:function`: it takes the config and, by keyword, those of `num_images`,
    `num_held_out` and `num_classes` that it needs."""
    preload: str
    """Module that imports everything a run needs; it is imported once for all runs of a study (`recipes.run.forkserver`)."""
    labeled: bool = True
    """Whether the stage needs labels, and so leaves out the images without one."""


STAGES: Mapping[str, StageSpec] = {
    "pretrain": StageSpec("config:PretrainConfig", "cost:training_cost", "train", labeled=False),
    "finetune": StageSpec("config:FinetuneConfig", "cost:training_cost", "train"),
    "common.evaluation linear": StageSpec("config:LinearConfig", "cost:linear_cost", "linear_run"),
    "common.evaluation knn": StageSpec("config:KnnEvaluationConfig", "cost:knn_cost", "knn_run"),
    "common.evaluation probe": StageSpec("config:ProbeConfig", "cost:probe_cost", "probe_run"),
    "common.evaluation tokens": StageSpec(
        "config:TokensConfig", "cost:tokens_cost", "token_similarity_run", labeled=False
    ),
    "common.evaluation complexity": StageSpec("config:ComplexityConfig", "cost:complexity_cost", "complexity_run"),
}
"""All stages, by what follows `accelerate launch -m`: the stage's package, and its first argument if the package has several."""
PROBE = "common.evaluation probe"
"""Stage of a study's baselines."""
PRETRAIN, FINETUNE = "pretrain", "finetune"
"""Stages that a study sized to its images sets (`recipes.sizing`)."""


def find_stage(module: str) -> StageSpec:
    """Return the registry's entry of a stage; raise UserError with the known stages if it is not registered."""
    if module not in STAGES:
        known = list(STAGES)
        raise UserError(
            f"stages: {module} is not a stage.{did_you_mean(module, known)} Known stages: {', '.join(known)}."
        )
    return STAGES[module]


def config_class(module: str) -> type[Any]:
    """Return the config class of a stage."""
    cls: type[Any] = _import(module, find_stage(module).config)
    return cls


def recipe_classes() -> dict[str, type[Any]]:
    """Return the config class of every kind of recipe by the last word of its command, also of those that no study runs."""
    from common.evaluation.config import CONFIGS

    return {module.split()[-1]: config_class(module) for module in STAGES} | CONFIGS


def cost_function(module: str) -> Callable[..., Any]:
    """Return the cost function of a stage (`StageSpec.cost`)."""
    function: Callable[..., Any] = _import(module, find_stage(module).cost)
    return function


def preload_modules() -> list[str]:
    """Return the modules to import before runs are forked."""
    return [f"{_package(module)}.{stage.preload}" for module, stage in STAGES.items()]


def _import(module: str, name: str) -> Any:
    """Import `module:attribute` from a stage's package."""
    submodule, _, attribute = name.partition(":")
    return getattr(importlib.import_module(f"{_package(module)}.{submodule}"), attribute)


def _package(module: str) -> str:
    """Return the package of a stage."""
    return module.split()[0]


@cache
def load_config(module: str, recipe: Path, overrides: tuple[str, ...]) -> Any:
    """Return a recipe as its stage's validated config; `out`, which each run sets, gets a placeholder."""
    return load(config_class(module), recipe, ["out=planned", *overrides])


def resolve_by_config(module: str, recipe: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return the keys that a run's numbers depend on, as dotted keys validated by the stage's config class.

    Excluded are keys that change no number (output folder, number of workers) and keys at their default: a key added in a later
    version must not turn finished runs into other runs. The keys of the stem are always included (`canonical_stem`); a slash at
    the end of a path changes nothing.
    """
    from common.training.run_folder import changes_numbers

    cls = config_class(module)
    config = flatten(to_mapping(load_config(module, recipe, overrides)))
    default = flatten(defaults(cls))
    changed = {key: value for key, value in config.items() if key not in default or default[key] != value}
    stem = {key: config[key] for key in ("model.name", "model.stem", "model.patch_size") if key in config}
    paths = {key: without_final_slash(value) for key in PATH_KEYS if isinstance(value := changed.get(key), str)}
    return {key: value for key, value in (changed | stem | paths).items() if changes_numbers(key, value)}


def canonical_stem(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the canonical stem keys of a resolved recipe: `patchify` for `1Proj`, no strides if they are the stem's defaults."""
    name, strides = config.get("model.stem"), config.get("model.stem_strides")
    if name is None:
        return {}
    # Imports torch, which the commands that only read do without.
    from common.models.stem_registry import ALIASES, parse_stem

    short_names = {full: alias for alias, full in ALIASES.items()}
    canonical: dict[str, Any] = {"model.stem": short_names.get(name, name)}
    if strides is not None and tuple(strides) == parse_stem(name).strides(math.prod(strides)):
        canonical["model.stem_strides"] = None
    return canonical
