"""Completes a study that is sized to its images: reads them, measures the machine once, and keeps the rates in sizing.yaml."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.paths import is_local
from common.yaml_words import as_text
from recipes.sizing.apply import sized_mapping
from recipes.sizing.choices import SizingChoice
from recipes.sizing.duration import read_duration
from recipes.sizing.facts import ImageFacts, read_facts
from recipes.sizing.gpu_process import call_here, measuring_process
from recipes.sizing.known_rates import KnownRates, read_rates, write_rates
from recipes.sizing.machine import find_machine, has_gpu, lack_of_memory, measure_bf16_ratio
from recipes.sizing.measures import RecipeMeasures
from recipes.sizing.size import Sizing, size_study
from recipes.sizing.weights import find_public
from recipes.stages import FINETUNE, load_config
from recipes.study.plan import format_value
from recipes.study.specification import Study


@dataclass(frozen=True)
class SizeOptions:
    """What the command line says about the size of a study; None: what the study's file says."""

    budget: str | None = None
    public: str | None = None
    command: str = ""
    """What follows `python -m recipes run`, which the study states."""


def complete_study(
    study: Study,
    folder: Path,
    options: SizeOptions,
    *,
    jobs: int,
    cores: int,
    may_use_gpu: bool,
    print_line: Callable[[str], None],
) -> tuple[dict[str, Any], float]:
    """Return the file of `study` with everything that its sizing chose, and the MACs per second that its runs should reach.

    What the log says about the images is printed as they are read, then the choices with their reasons. `folder` is that of the
    study, `jobs` the runs at a time, `may_use_gpu` whether they take GPUs if there are some. Raise UserError for images or weights
    that cannot be used, and for a budget that is too short.
    """
    mapping, size = study.mapping, study.mapping["size"]
    given = dict(mapping.get("set") or {})
    if study.match != "compute":
        raise UserError("match: a study that is sized gives every arm the same MACs. Remove the key.")
    seconds = read_duration(options.budget or as_text(size.get("budget", "2h")), "--budget")
    wanted = options.public or as_text(size.get("public"))
    recipes = {stage.name: (stage.module, stage.recipe) for stage in study.stages}
    data = {key.removeprefix("finetune."): value for key, value in given.items()}
    _check_source(recipes[FINETUNE][1], data)
    settings = {key: value for key, value in data.items() if key.startswith("data.")}
    facts = read_facts(recipes[FINETUNE][1], settings, print_line)
    public, skipped = find_public(None if wanted in (None, "", "none") else wanted)
    on_gpu = may_use_gpu and has_gpu()
    process = measuring_process() if on_gpu else nullcontext(call_here)
    with lack_of_memory("the device has too little free memory to be measured. Free some."), process as call:
        machine = call(find_machine, jobs, cores, on_gpu=on_gpu)
        known = read_rates(folder, machine)
        if on_gpu:
            ratio = call(measure_bf16_ratio) if known.bf16_ratio is None else known.bf16_ratio
            machine, known = replace(machine, bf16_ratio=ratio), replace(known, bf16_ratio=ratio)
        measures = RecipeMeasures(recipes, given, facts, machine, known.rates, known.busy, call, print_line)
        sizing = size_study(
            facts,
            machine,
            seconds,
            measures,
            public=public,
            skipped=skipped,
            given=given,
            seeds=tuple(mapping.get("seeds") or ()),
            may_tune="tune" not in mapping,
        )
    if measures.busy:
        sizing = replace(sizing, choices=(*sizing.choices, _choice_under_load(measures)))
    print_line(describe(facts, sizing))
    write_rates(folder, machine, KnownRates(measures.rates, measures.busy, machine.bf16_ratio))
    return sized_mapping(mapping, sizing, options.command), sizing.macs_per_second


def _check_source(recipe: Path, given: Mapping[str, Any]) -> None:
    """Raise UserError if the command line names no images, and those of the recipe are not here."""
    source = str(load_config(FINETUNE, recipe, ()).data.source)
    if "data.source" not in given and "/" not in source and not is_local(source):
        raise UserError("data.source: this study is about your images. Add data.source=<folder, file or hub id>.")


def describe(facts: ImageFacts, sizing: Sizing) -> str:
    """Return the choices as lines of text: group and key, value, reason."""
    kind = "gray" if facts.gray else f"{facts.channels} channels"
    lines = [
        facts.size().describe(),
        f"training images: {len(facts.class_counts)} classes of {min(facts.class_counts)} to {max(facts.class_counts)} images,"
        f" {facts.side} px, {kind}",
    ]
    rows = [(_name(choice), _text(choice), choice.reason) for choice in sizing.choices]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines += [f"    {name:<{widths[0]}}  {value:<{widths[1]}}  {reason}" for name, value, reason in rows]
    return "\n".join([*lines, *(f"left out: {sentence}" for sentence in sizing.skipped)])


def _name(choice: SizingChoice) -> str:
    """Return group, stem and key of a choice."""
    group = {"study": "", "scratch": "from scratch: "}.get(choice.group, f"{choice.group}: ")
    return f"{group}{choice.key}{f' ({choice.stem})' if choice.stem else ''}"


def _text(choice: SizingChoice) -> str:
    """Return the value of a choice as the command line takes it."""
    return choice.value if isinstance(choice.value, str) else format_value(choice.value)


def _choice_under_load(measures: RecipeMeasures) -> SizingChoice:
    """Return what is to be known about rates that were measured while the machine was busy."""
    count = f"{len(measures.busy)} of {len(measures.rates)} rates" if len(measures.rates) > 1 else "the rate"
    load = next(iter(measures.busy.values()))
    reason = (
        f"{load}: {count} may be too low, and the study smaller than on a quiet machine. Measured anew by every command until runs"
        " have started"
    )
    return SizingChoice("study", "machine, when measured", "busy", reason)
