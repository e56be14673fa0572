"""Plan of a study: its runs, their names, dependencies and commands.

A run's name ends in a hash of its stage's resolved config, of the run or weights it starts from, and of the version of the stage's
numerics. Cells of a study, or different studies (`recipes.run.run_cache`), that need the same pre-training share one run folder. A
changed recipe, other weights at the same path, or a new numerics version get a new folder.
"""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError
from common.training.numerics import FIRST, numerics_version
from common.yaml_text import parse_override
from common.yaml_words import Word, as_text
from recipes.stages import canonical_stem
from recipes.study.choices import Choices
from recipes.study.display import display_path
from recipes.study.folder_names import folder_name
from recipes.study.inputs import input_digests
from recipes.study.specification import Stage, Study

DIGEST_DIGITS = 8
"""Number of hexadecimal digits of a run's hash."""

Resolver = Callable[[str, Path, tuple[str, ...]], dict[str, Any]]
"""(module of a stage, recipe, overrides) -> the config that a run depends on, as plain containers; UserError if it is invalid."""


@dataclass(frozen=True)
class PlannedRun:
    """A run of a stage: its id (the name of its folder), command, levels, and the id of the run it starts from."""

    id: str
    stage: str
    module: str
    recipe: str
    overrides: tuple[str, ...]
    levels: Mapping[str, str]
    needs: str | None
    macs: float | None = None
    """MACs of its training (`recipes.study.cost`), without those of the run it starts from; None if they are not known."""
    start: "PlannedRun | None" = field(default=None, compare=False, repr=False)
    """The run `needs`, whose network it may take over (`model.name=init`); None in a plan that was read from a folder."""

    def arguments(self, folder: Path) -> tuple[str, ...]:
        """Return the arguments of the stage's command; `folder` contains the study's run folders."""
        init = (f"init={display_path(folder / self.needs)}",) if self.needs else ()
        out = f"out={display_path(folder / self.id)}"
        return (*self.module.split()[1:], self.recipe, *self.overrides, *init, out)

    @property
    def package(self) -> str:
        """Return the module for `python -m`; if it has several stages, `arguments` begin with the stage's name."""
        return self.module.split()[0]

    @property
    def digest(self) -> str:
        """Return the run's hash, which is the same in every study."""
        return self.id[-DIGEST_DIGITS:]


@dataclass(frozen=True)
class Cell:
    """A combination of levels, and the ids of its runs by stage."""

    levels: Mapping[str, str]
    runs: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """A study with its runs (in the order of its stages) and its cells."""

    study: Study
    runs: tuple[PlannedRun, ...]
    cells: tuple[Cell, ...]
    choices: Choices | None = None
    """Choices of the lengths and other keys of its last stage, if the study has a section tune and they are made."""

    def select(self, pattern: str) -> tuple[PlannedRun, ...]:
        """Return the runs whose id contains `pattern` (`*` matches anything), and the runs they start from."""
        expression = re.compile(".*".join(re.escape(part) for part in pattern.split("*")))
        selected = {run.id for run in self.runs if expression.search(run.id)}
        if not selected:
            raise UserError(f"--only {pattern}: matches no run. Run names look like {self.runs[-1].id}.")
        for run in reversed(self.runs):
            if run.id in selected and run.needs:
                selected.add(run.needs)
        return tuple(run for run in self.runs if run.id in selected)


def make_plan(study: Study, resolve: Resolver, wanted: Iterable[Mapping[str, str]] | None = None) -> Plan:
    """Return the plan of a study, every config validated by `resolve`; raise one UserError that lists all problems.

    Its cells are the `wanted` ones, by default every combination of levels but those that the study is without.
    """
    runs: dict[str, PlannedRun] = {}
    problems: dict[str, None] = {}
    cells = []
    for levels in _all_levels(study) if wanted is None else wanted:
        cell_runs: dict[str, str] = {}
        try:
            _add_run(study, len(study.stages) - 1, levels, resolve, runs, cell_runs)
        except UserError as error:
            problems[str(error)] = None
        cells.append(Cell(levels, cell_runs))
    if problems:
        raise UserError("\n".join([f"study {study.name}: invalid configuration; nothing was started.", *problems]))
    order = {stage.name: number for number, stage in enumerate(study.stages)}
    return Plan(study, tuple(sorted(runs.values(), key=lambda run: order[run.stage])), tuple(cells))


def _all_levels(study: Study) -> Iterator[dict[str, str]]:
    """Yield every combination of levels that is a cell."""
    for names in itertools.product(*(axis.levels for axis in study.axes)):
        levels = {axis.name: name for axis, name in zip(study.axes, names, strict=True)}
        if study.has_cell(levels):
            yield levels


def _add_run(
    study: Study,
    number: int,
    levels: Mapping[str, str],
    resolve: Resolver,
    runs: dict[str, PlannedRun],
    cell_runs: dict[str, str],
) -> PlannedRun:
    """Add the run of stage `number` at `levels` to `runs`, after the run that it needs; return it."""
    stage = study.stages[number]
    settings = study.settings(stage, levels)
    needed = study.start_of(stage, levels)
    earlier = [other.name for other in study.stages[:number]]
    if needed is not None and needed not in earlier:
        raise UserError(
            f"stages.{stage.name}: starts from {needed}, but a stage can only start from an earlier one ({earlier})."
        )
    if needed is not None and "init" in settings:
        raise UserError(
            f"{stage.name}.init = {settings['init']}: the stage starts from the stage {needed}. Set"
            f" {needed}.published={settings['init']} to use those weights instead of that stage, or remove the key."
        )
    published = study.stages[earlier.index(needed)].published if needed else None
    if published:
        settings["init"] = published.init
    start = None
    if needed and not published:
        start = _add_run(study, earlier.index(needed), levels, resolve, runs, cell_runs)
    own_levels = {axis.name: levels[axis.name] for axis in study.axes if study.affects(axis, stage)}
    if start:
        own_levels = {name: level for name, level in levels.items() if name in own_levels or name in start.levels}
    run = build_run(stage, settings, own_levels, start, resolve, runs)
    runs[run.id] = run
    cell_runs[stage.name] = run.id
    return run


def build_run(
    stage: Stage,
    settings: Mapping[str, Any],
    levels: Mapping[str, str],
    start: PlannedRun | None,
    resolve: Resolver,
    known: Mapping[str, PlannedRun],
) -> PlannedRun:
    """Return the run of a stage with these settings and levels that starts from `start`, or the `known` one that it equals."""
    overrides, config = _resolve(stage, settings, resolve)
    digest = _digest(stage, config, start)
    if (equal := next((run for run in known.values() if run.id.endswith(digest)), None)) is not None:
        return equal
    parts = [stage.name, *(_level_in_name(axis, level) for axis, level in levels.items())]
    name = folder_name("-".join(parts), f"-{digest}")
    needs = start.id if start else None
    return PlannedRun(name, stage.name, stage.module, display_path(stage.recipe), overrides, levels, needs, start=start)


def _resolve(stage: Stage, settings: Mapping[str, Any], resolve: Resolver) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return a run's overrides and its resolved config, with canonical stem names: two tables may name a stem differently."""
    overrides = tuple(f"{key}={format_value(value)}" for key, value in settings.items())
    config = resolve(stage.module, stage.recipe, overrides)
    canonical = {key: value for key, value in canonical_stem(config).items() if key in settings}
    if all(settings[key] == value for key, value in canonical.items()):
        return overrides, config
    overrides = tuple(f"{key}={format_value(value)}" for key, value in {**settings, **canonical}.items())
    return overrides, resolve(stage.module, stage.recipe, overrides)


def format_value(value: Any) -> str:
    """Return a value as the right side of `key=value`, which `parse_override` reads as the same text, value or word."""
    if isinstance(value, Word) or (type(value) is str and _is_plain(value)):
        return str(value)
    return _flow(value)


def _is_plain(text: str) -> bool:
    """Return whether a text needs no quotes as the right side of `key=value`."""
    parsed = parse_override(text)
    return type(parsed) is str and parsed == text


def _flow(value: Any) -> str:
    """Return a value as YAML on one line, with text in quotes."""
    if isinstance(value, Word):
        return str(value) if value and not isinstance(value.value, str) else _flow(as_text(value) or None)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow(key)}: {_flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, str):
        return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=math.inf).rstrip("\n")
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    return json.dumps(value)


def _digest(stage: Stage, config: Mapping[str, Any], start: PlannedRun | None) -> str:
    """Return the hash of a run: its stage's config, the run or files it starts from, and the version of the stage's numerics."""
    content: dict[str, Any] = {"module": stage.module, "config": config, "start": start.digest if start else None}
    if (version := numerics_version(stage.module, config)) != FIRST:
        content["numerics"] = version
    if digests := input_digests({**config, "init": None} if start else config):
        content["inputs"] = digests
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:DIGEST_DIGITS]


def _level_in_name(axis: str, level: str) -> str:
    """Return a level as part of a run's name; a number gets its axis as prefix."""
    word = f"{axis}{level}" if level[:1].isdigit() or level[:1] == "-" else level
    return re.sub(r"[^A-Za-z0-9.+_]+", "_", word)
