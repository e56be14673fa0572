"""Owns what a study knows of the stages: the class of each one's recipe, and which of its keys make another run."""

import importlib
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from common.config import defaults, flatten, load, nearest, to_mapping
from common.errors import UserError
from common.models.stem_grammar import ALIASES, parse_stem

CONFIGS = {
    "pretrain": "pretrain.config:PretrainConfig",
    "finetune": "finetune.config:FinetuneConfig",
    "common.evaluation linear": "common.evaluation.config:LinearConfig",
    "common.evaluation knn": "common.evaluation.config:KnnEvaluationConfig",
    "common.evaluation tokens": "common.evaluation.config:TokensConfig",
    "common.evaluation complexity": "common.evaluation.config:ComplexityConfig",
}
"""Where the class of each stage's recipe stands, by the stage's module (and first argument, where a module has several)."""
SHORT_NAMES = {name: alias for alias, name in ALIASES.items()}


def config_class(module: str) -> type[Any]:
    """Return the class of a stage's recipe."""
    if module not in CONFIGS:
        known = list(CONFIGS)
        raise UserError(f"stages: {module} is not a stage.{nearest(module, known)} There are {', '.join(known)}.")
    package, _, name = CONFIGS[module].partition(":")
    cls: type[Any] = getattr(importlib.import_module(package), name)
    return cls


@cache
def load_config(module: str, recipe: Path, overrides: tuple[str, ...]) -> Any:
    """Return a stage's recipe as its class, checked; the folder that a run gets is stood in for."""
    return load(config_class(module), recipe, ["out=planned", *overrides])


def resolve_by_config(module: str, recipe: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Return what a run of a stage depends on as dotted keys, checked by the class of its recipe.

    Left out are keys that change no number (where it writes, how many workers), and those at their default: a key that a
    later version adds does not make finished runs other runs. The stem is always there (`canonical_stem`).
    """
    from common.training.run_folder import OPERATIONAL

    cls = config_class(module)
    config = flatten(to_mapping(load_config(module, recipe, overrides)))
    usual = flatten(defaults(cls))
    telling = {key: value for key, value in config.items() if key not in usual or usual[key] != value}
    stem = {key: config[key] for key in ("model.name", "model.stem", "model.patch_size") if key in config}
    return {key: value for key, value in (telling | stem).items() if key not in OPERATIONAL}


def canonical_stem(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the one name and strides for the stem of a resolved recipe: `patchify` for `1Proj`, no strides for the usual ones."""
    name, strides = config.get("model.stem"), config.get("model.stem_strides")
    if name is None:
        return {}
    canonical: dict[str, Any] = {"model.stem": SHORT_NAMES.get(name, name)}
    if strides is not None and tuple(strides) == parse_stem(name).strides(math.prod(strides)):
        canonical["model.stem_strides"] = None
    return canonical
