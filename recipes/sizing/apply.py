"""The study file that a sizing completes."""

import copy
from collections.abc import Mapping
from typing import Any

from recipes import stages as registry
from recipes.sizing.choices import SizingChoice
from recipes.sizing.design import LENGTHS
from recipes.sizing.size import Sizing
from recipes.study import specification
from recipes.study.plan import format_value

SCRATCH_LEVELS, PUBLIC_LEVELS = ("OST", "TST"), ("public", "continued")
BALANCED = "balanced_accuracy"


def sized_mapping(mapping: Mapping[str, Any], sizing: Sizing, command: str) -> dict[str, Any]:
    """Return the study `my_images` with everything that its sizing chose, as a study file of its own that states its command."""
    study = copy.deepcopy(dict(mapping))
    study.pop("size", None)
    stages, axes = study["stages"], study["axes"]
    study["set"] = {key: value for key, value in study.get("set", {}).items() if key not in sizing.taken}
    levels = axes["training"]["levels"]
    for name in levels:
        entry = levels[name] or {}
        levels[name] = {**entry, "set": dict(entry.get("set", {}))}
    for choice in sizing.choices:
        _apply(choice, study)
    if sizing.public is not None:
        init, own = sizing.public.init, sizing.public.normalization(sizing.channels)
        _set(stages["continue"], {"init": init, "model.name": "init", **own})
        for name in PUBLIC_LEVELS:
            _set(levels[name], {f"finetune.{key}": value for key, value in {"model.name": "init", **own}.items()})
        _set(levels["public"], {"finetune.init": init})
    kept = [name for name in PUBLIC_LEVELS if sizing.public is not None and (name == "public" or sizing.continued)]
    _keep(study, kept)
    axes["fraction"]["values"] = list(sizing.design.shares)
    axes["seed"]["values"] = list(sizing.design.seeds)
    if sizing.imbalanced:
        study["report"] |= {"metric": f"test_{BALANCED}", "metric_name": "balanced accuracy"}
    if sizing.design.tuned:
        metric = f"validation_subset_{BALANCED if sizing.imbalanced else 'top1'}"
        study["tune"] = {"seeds": [sizing.design.tuning_seed], "lengths": list(LENGTHS), "metric": metric}
    study["budget_macs"] = float(f"{sizing.budget_macs:.6g}")
    if sizing.skipped:
        study["report"]["skipped"] = list(sizing.skipped)
    study["sizing"] = [_described(choice) for choice in sizing.choices]
    study["sized_by"] = command
    return study


def _apply(choice: SizingChoice, study: dict[str, Any]) -> None:
    """Set the key of a choice where its group has it."""
    stages, levels, stems = study["stages"], study["axes"]["training"]["levels"], study["axes"]["stem"]["levels"]
    match choice.group:
        case "every run":
            study["set"][choice.key] = choice.value
        case "scratch" if choice.stem:
            both = {f"{stage}.{choice.key}": choice.value for stage in (registry.PRETRAIN, registry.FINETUNE)}
            stems[choice.stem] = {**stems[choice.stem], **both}
        case "scratch":
            _set(stages[registry.PRETRAIN], {choice.key: choice.value})
            _set_levels(levels, SCRATCH_LEVELS, choice)
        case registry.FINETUNE:
            _set_levels(levels, SCRATCH_LEVELS, choice)
        case specification.BASELINES:
            _set(study[specification.BASELINES], {choice.key: choice.value})
        case registry.PRETRAIN if choice.stem:
            stems[choice.stem] = {**stems[choice.stem], f"pretrain.{choice.key}": choice.value}
        case registry.PRETRAIN | "continue":
            _set(stages[choice.group], {choice.key: choice.value})
        case "public":
            _set(stages["continue"], {choice.key: choice.value})
            _set_levels(levels, PUBLIC_LEVELS, choice)
        case "public finetune":
            _set_levels(levels, PUBLIC_LEVELS, choice)


def _set(entry: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Add settings of recipe keys to a stage or a level."""
    entry["set"] = {**entry.get("set", {}), **settings}


def _set_levels(levels: Any, names: tuple[str, ...], choice: SizingChoice) -> None:
    """Add the key of a choice to fine-tuning at some levels."""
    for name in names:
        _set(levels[name], {f"finetune.{choice.key}": choice.value})


def _keep(study: dict[str, Any], kept: list[str]) -> None:
    """Remove the levels of public weights that are not kept, and what only they need."""
    for name in PUBLIC_LEVELS:
        if name not in kept:
            del study["axes"]["training"]["levels"][name]
    if "continued" not in kept:
        del study["stages"]["continue"]
        for section in (study.get("slurm"), study.get("ray")):
            ((section or {}).get("stages") or {}).pop("continue", None)
    study["report"]["starts"] = kept
    study["without"] = [each for each in study["without"] if each["training"] in kept]
    for key, holder in (("starts", study["report"]), ("without", study)):
        if not holder[key]:
            del holder[key]


def _described(choice: SizingChoice) -> dict[str, str]:
    """Return a choice as the report prints it."""
    name = f"{choice.group}: {choice.key}" + (f" ({choice.stem})" if choice.stem else "")
    value = choice.value if isinstance(choice.value, str) else format_value(choice.value)
    return {"key": name, "value": value, "reason": choice.reason}
