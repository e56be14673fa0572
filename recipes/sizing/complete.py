"""Completes a study that is sized to its images: reads them, measures the machine once, and keeps the rates in sizing.yaml."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.files import write_atomic
from common.paths import is_local
from common.yaml_text import as_text, as_value, dump_yaml, read_yaml
from recipes.sizing.apply import sized_mapping
from recipes.sizing.choices import SizingChoice
from recipes.sizing.duration import read_duration
from recipes.sizing.facts import ImageFacts, read_facts
from recipes.sizing.machine import Machine, find_machine
from recipes.sizing.measures import RecipeMeasures
from recipes.sizing.size import Sizing, size_study
from recipes.sizing.weights import find_public
from recipes.stages import FINETUNE, load_config
from recipes.study.plan import format_value
from recipes.study.specification import Study

FILE = "sizing.yaml"
HEADER = """\
# MACs per second of one run, by network, on the machine named here. The same command sizes the study with them again; without this
# file, or on another machine, they are measured anew.
"""


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
    print_line: Callable[[str], None],
) -> tuple[dict[str, Any], float]:
    """Return the file of `study` with everything that its sizing chose, and the MACs per second that its runs should reach.

    The choices are printed with their reasons. `folder` is that of the study, `jobs` the runs at a time. Raise UserError for images
    or weights that cannot be used, and for a budget that is too short.
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
    facts = read_facts(recipes[FINETUNE][1], {k: v for k, v in data.items() if k.startswith("data.")})
    public, skipped = find_public(None if wanted in (None, "", "none") else wanted)
    machine = find_machine(jobs, cores)
    measures = RecipeMeasures(recipes, given, facts, machine, _known_rates(folder / FILE, machine))
    seeds = tuple(mapping.get("seeds") or ())
    sizing = size_study(
        facts,
        machine,
        seconds,
        measures,
        public=public,
        skipped=skipped,
        given=given,
        seeds=seeds,
        may_tune="tune" not in mapping,
    )
    print_line(describe(facts, sizing))
    _write(folder / FILE, machine, measures.rates)
    return sized_mapping(mapping, sizing, options.command), sizing.macs_per_second


def _check_source(recipe: Path, given: Mapping[str, Any]) -> None:
    """Raise UserError if the command line names no images, and those of the recipe are not here."""
    source = str(load_config(FINETUNE, recipe, ()).data.source)
    if "data.source" not in given and "/" not in source and not is_local(source):
        raise UserError("data.source: this study is about your images. Add data.source=<folder, file or hub id>.")


def describe(facts: ImageFacts, sizing: Sizing) -> str:
    """Return the choices as lines of text: group and key, value, reason."""
    kind = "gray" if facts.gray else f"{facts.channels} channels"
    more = f" and {facts.unlabeled} without a label" if facts.unlabeled else ""
    lines = [
        f"images: {facts.labeled} for training{more}, {len(facts.class_counts)} classes of {min(facts.class_counts)} to"
        f" {max(facts.class_counts)} images, {facts.side} px, {kind}"
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


def _known_rates(path: Path, machine: Machine) -> dict[str, float]:
    """Return the rates that were measured on this machine before, or none."""
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
        rates = {as_text(name): float(as_value(rate)) for name, rate in content["rates"].items()}
        return rates if as_text(content["machine"]) == machine.describe() else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError):
        return {}


def _write(path: Path, machine: Machine, rates: Mapping[str, float]) -> None:
    """Write the rates of a machine; everything else follows from them, the images and the study."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine.describe(), "rates": dict(rates)}
    write_atomic(path, HEADER + dump_yaml(content), concurrent_writers=True)
