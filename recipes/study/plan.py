"""Owns the runs of a study: which there are, their names by hash, what each needs, their commands, and what is done.

A run is named by the hash of its stage's resolved config, of the run or the weights it starts from, and of the version of what the
stage computes: two cells of a study that ask for the same pre-training share its folder, as do two studies (`sharing`), and a
changed recipe, other weights under the same name, or a program that computes other numbers get folders of their own.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from common.errors import UserError
from common.files import is_there, write_whole
from common.training.numerics import FIRST, numerics_version
from recipes.stages import canonical_stem
from recipes.study.inputs import input_digests
from recipes.study.specification import Stage, Study, shown
from recipes.study.study_file import build_study

DIGEST = 8
"""Hex digits of a run's hash."""

Resolver = Callable[[str, Path, tuple[str, ...]], dict[str, Any]]
"""(module of a stage, recipe, overrides) -> what a run depends on, as plain containers; UserError if wrong."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a stage: its id (its folder's name), its command's arguments, its levels, the run it starts from."""

    id: str
    stage: str
    module: str
    recipe: str
    overrides: tuple[str, ...]
    levels: Mapping[str, str]
    needs: str | None

    def arguments(self, folder: Path) -> tuple[str, ...]:
        """Return what the stage's command gets, for a study whose run folders lie in `folder`."""
        start = (f"init={shown(folder / self.needs)}",) if self.needs else ()
        return (*self.module.split()[1:], self.recipe, *self.overrides, *start, f"out={shown(folder / self.id)}")

    @property
    def package(self) -> str:
        """Return what `python -m` gets; a module of several stages takes the stage's name as its first argument."""
        return self.module.split()[0]

    @property
    def digest(self) -> str:
        """Return the hash that names this run in every study."""
        return self.id[-DIGEST:]


@dataclass(frozen=True)
class Cell:
    """One combination of levels, and the id of the run of each stage that serves it."""

    levels: Mapping[str, str]
    runs: Mapping[str, str]


@dataclass(frozen=True)
class Plan:
    """A study with all its runs (in the order of its stages) and cells."""

    study: Study
    runs: tuple[PlannedRun, ...]
    cells: tuple[Cell, ...]

    def select(self, pattern: str) -> tuple[PlannedRun, ...]:
        """Return the runs whose id holds `pattern` (`*` stands for anything), with those they start from."""
        wanted = re.compile(".*".join(re.escape(part) for part in pattern.split("*")))
        chosen = {run.id for run in self.runs if wanted.search(run.id)}
        if not chosen:
            raise UserError(f"--only {pattern}: no run's name holds it. Names are like {self.runs[-1].id}.")
        for run in reversed(self.runs):
            if run.id in chosen and run.needs:
                chosen.add(run.needs)
        return tuple(run for run in self.runs if run.id in chosen)


def make_plan(study: Study, resolve: Resolver) -> Plan:
    """Return every run of `study`, each config checked by `resolve`; raise one UserError with all that is wrong."""
    runs: dict[str, PlannedRun] = {}
    problems: dict[str, None] = {}
    cells = []
    for names in itertools.product(*(axis.levels for axis in study.axes)):
        levels = {axis.name: name for axis, name in zip(study.axes, names, strict=True)}
        served: dict[str, str] = {}
        try:
            _add_run(study, len(study.stages) - 1, levels, resolve, runs, served)
        except UserError as error:
            problems[str(error)] = None
        cells.append(Cell(levels, served))
    if problems:
        raise UserError("\n".join([f"study {study.name}: nothing was started.", *problems]))
    order = {stage.name: number for number, stage in enumerate(study.stages)}
    return Plan(study, tuple(sorted(runs.values(), key=lambda run: order[run.stage])), tuple(cells))


def _add_run(
    study: Study,
    number: int,
    levels: Mapping[str, str],
    resolve: Resolver,
    runs: dict[str, PlannedRun],
    served: dict[str, str],
) -> PlannedRun:
    """Add the run of stage `number` in the cell at `levels`, and before it the one it needs; return it."""
    stage = study.stages[number]
    settings = study.settings(stage, levels)
    needed = settings.pop("needs", None)
    before = [other.name for other in study.stages[:number]]
    if needed is not None and needed not in before:
        raise UserError(f"stages.{stage.name}: needs {needed}, but can only need an earlier stage ({before}).")
    if needed is not None and "init" in settings:
        raise UserError(
            f"{stage.name}.init = {settings['init']}: what it starts from is the stage {needed}. Give"
            f" {needed}.published={settings['init']} to have those weights stand for that stage, or leave the key out."
        )
    published = study.stages[before.index(needed)].published if needed else None
    if published:
        settings["init"] = published.init
    start = _add_run(study, before.index(needed), levels, resolve, runs, served) if needed and not published else None
    overrides, config = _resolve(stage, settings, resolve)
    digest = _digest(stage, config, start)
    touching = {axis.name: levels[axis.name] for axis in study.axes if study.touches(axis, stage)}
    if start:
        touching = {name: level for name, level in levels.items() if name in touching or name in start.levels}
    name = "-".join([stage.name, *(_readable(axis, level) for axis, level in touching.items()), digest])
    known = next((run for run in runs.values() if run.id.endswith(digest)), None)
    run = known or PlannedRun(
        name, stage.name, stage.module, shown(stage.recipe), overrides, touching, start.id if start else None
    )
    runs[run.id] = run
    served[stage.name] = run.id
    return run


def _resolve(stage: Stage, settings: Mapping[str, Any], resolve: Resolver) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return a run's overrides and its whole config, with one name for each stem: two tables may call it differently."""
    overrides = tuple(f"{key}={write_value(value)}" for key, value in settings.items())
    config = resolve(stage.module, stage.recipe, overrides)
    canonical = {key: value for key, value in canonical_stem(config).items() if key in settings}
    if all(settings[key] == value for key, value in canonical.items()):
        return overrides, config
    overrides = tuple(f"{key}={write_value(value)}" for key, value in {**settings, **canonical}.items())
    return overrides, resolve(stage.module, stage.recipe, overrides)


def write_value(value: Any) -> str:
    """Return a value as the right side of `key=value`, so that it reads back as the same value."""
    if isinstance(value, str) and value and yaml.safe_load(value) == value:
        return value
    return json.dumps(value)


def _digest(stage: Stage, config: Mapping[str, Any], start: PlannedRun | None) -> str:
    """Return the hash of a stage's config, of what it starts from, and of the version of what it computes."""
    whole: dict[str, Any] = {"module": stage.module, "config": config, "start": start.digest if start else None}
    if (version := numerics_version(stage.module, config)) != FIRST:
        whole["numerics"] = version
    if digests := input_digests({**config, "init": None} if start else config):
        whole["inputs"] = digests
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:DIGEST]


def _readable(axis: str, level: str) -> str:
    """Return a level as part of a folder's name; a bare number gets its axis before it."""
    word = f"{axis}{level}" if level[:1].isdigit() or level[:1] == "-" else level
    return re.sub(r"[^A-Za-z0-9.+_]+", "_", word)


def write_plan(plan: Plan, folder: Path, published: Mapping[str, Mapping[str, str]] = MappingProxyType({})) -> None:
    """Write `folder`/study.yaml: the study as given, its runs and cells; all that a report needs beside the runs.

    `published` are the weights that were fetched for this call, by stage; those that earlier calls noted stay.
    """
    path, noted = folder / "study.yaml", dict(published)
    if is_there(path):
        other = read_plan(folder).study
        if (other.name, other.scale) != (plan.study.name, plan.study.scale):
            raise UserError(
                f"--out {folder}: holds the study {other.title}, this is {plan.study.title}. Choose another folder."
            )
        noted = (yaml.safe_load(path.read_text(encoding="utf-8")).get("published") or {}) | noted
    content = {
        "file": plan.study.source,
        "study": dict(plan.study.mapping),
        **({"published": {stage: dict(one) for stage, one in noted.items()}} if noted else {}),
        "runs": [{**vars(run), "overrides": list(run.overrides), "levels": dict(run.levels)} for run in plan.runs],
        "cells": [{"levels": dict(cell.levels), "runs": dict(cell.runs)} for cell in plan.cells],
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120), by_many=True)


def read_plan(folder: Path) -> Plan:
    """Return the plan that `write_plan` left in a study's folder."""
    path = folder / "study.yaml"
    if not is_there(path):
        raise UserError(f"{folder}: holds no study.yaml, so it is no study's folder. Give the --out of a `run`.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        runs = tuple(PlannedRun(**{**entry, "overrides": tuple(entry["overrides"])}) for entry in content["runs"])
        cells = tuple(Cell(entry["levels"], entry["runs"]) for entry in content["cells"])
        return Plan(build_study(content["study"], content["file"]), runs, cells)
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not written by `python -m recipes run` ({error}). Run the study again.") from error
