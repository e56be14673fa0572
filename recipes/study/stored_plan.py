"""The plan of a study in its folder: study.yaml, from which a report is made with the run folders alone."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from common.config import to_mapping
from common.errors import UserError
from common.files import path_exists, write_atomic
from common.yaml_text import dump_yaml, parse_dumped, parse_yaml
from recipes.study.choices import choices_of
from recipes.study.kept_levels import kept_study, name_of_part
from recipes.study.plan import Cell, Plan, PlannedRun
from recipes.study.specification import Study
from recipes.study.study_file import build_study

_SOURCE = "data.source"


def write_plan(plan: Plan, folder: Path, published: Mapping[str, Mapping[str, str]] = MappingProxyType({})) -> None:
    """Write `folder`/study.yaml: the study file, its runs and cells; a report needs only this file and the run folders.

    `published` are the weights that this call fetched, by stage; entries of earlier calls are kept.
    """
    path, weights = folder / "study.yaml", dict(published)
    check_folder(plan, folder)
    if path_exists(path):
        weights = (parse_yaml(path.read_text(encoding="utf-8")).get("published") or {}) | weights
    content = {
        "file": plan.study.source,
        "study": dict(plan.study.mapping),
        **({"published": {stage: dict(entry) for stage, entry in weights.items()}} if weights else {}),
        "runs": [_run_entry(run) for run in plan.runs],
        "cells": [{"levels": dict(cell.levels), "runs": dict(cell.runs)} for cell in plan.cells],
        **({"choices": to_mapping(plan.choices)} if plan.choices is not None else {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, dump_yaml(content), concurrent_writers=True)


def check_folder(plan: Plan, folder: Path) -> None:
    """Raise UserError if a folder contains another study, or the same study of other images: its report would be replaced."""
    if path_exists(folder / "study.yaml"):
        written = read_plan(folder)
        other = written.study
        if (other.name, other.scale) != (plan.study.name, plan.study.scale):
            raise UserError(
                f"--out {folder}: contains the study {other.title}, not {plan.study.title}. Choose another folder."
            )
        if name_of_part(other.mapping) != name_of_part(plan.study.mapping):
            raise UserError(
                f"--out {folder}: contains {_part(other)}, not {_part(plan.study)}. Choose another folder beside it: runs that are"
                " done are not repeated."
            )
        known, source = (each.mapping.get("set", {}).get(_SOURCE) for each in (other, plan.study))
        if known != source and not {run.id for run in plan.runs} & {run.id for run in written.runs}:
            raise UserError(
                f"--out {folder}: contains the study {other.title} of {_images(known)}, not of {_images(source)}. Choose another"
                " folder for it, or remove this one."
            )


def _part(study: Study) -> str:
    """Return which levels of a study are run, in words."""
    return (
        f"the part {name_of_part(study.mapping)} of {study.title}"
        if study.mapping.get("levels")
        else f"all of {study.title}"
    )


def _images(source: object) -> str:
    """Return the images of a study in words, from `data.source` of its command line."""
    return "its recipes' images" if source is None else f"{_SOURCE}={source}"


def _run_entry(run: PlannedRun) -> dict[str, Any]:
    """Return a run as plain containers; MACs that are not known are omitted."""
    entry = {**vars(run), "overrides": list(run.overrides), "levels": dict(run.levels)}
    return {key: value for key, value in entry.items() if key != "start" and (key != "macs" or value is not None)}


def read_plan(folder: Path) -> Plan:
    """Return the plan that `write_plan` wrote into a study's folder."""
    path = folder / "study.yaml"
    if not path_exists(path):
        raise UserError(
            f"{folder}: contains no study.yaml, so it is not the folder of a study. Give the --out of a `run`."
        )
    try:
        content = parse_dumped(path.read_text(encoding="utf-8"))
        runs = tuple(PlannedRun(**{**entry, "overrides": tuple(entry["overrides"])}) for entry in content["runs"])
        cells = tuple(Cell(entry["levels"], entry["runs"]) for entry in content["cells"])
        # A study of an earlier version has no match, and its arms have none.
        study = {"match": "none", **content["study"]}
        choices = choices_of(content["choices"], path) if "choices" in content else None
        return Plan(kept_study(build_study(study, content["file"])), runs, cells, choices)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: not written by `python -m recipes run` ({error}). Delete only this file and"
            " run the study again: its finished runs are not repeated."
        ) from error
