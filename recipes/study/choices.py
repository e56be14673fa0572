"""Choices of lengths and other keys, made on validation images (`tuning`): their file, choices.yaml, and how it is looked up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from common.config import read, to_mapping
from common.errors import UserError
from common.files import path_exists, write_atomic
from common.yaml_text import dump_yaml, read_yaml, reason_of
from common.yaml_words import values_of
from recipes.study.sections import FileSection
from recipes.study.specification import Match

HEADER = """\
# Lengths and other keys of each arm, chosen on validation images with seeds that are not reported; the command makes them again.
# A choice is used while its digest is that of the study: the runs it was made from, the candidates and the metric.
"""


class Candidate(FileSection):
    """A candidate of an arm, and what it reached."""

    length: float
    """Part of the epochs that the arm's budget allows."""
    values: dict[str, Any] = {}
    """Values of other keys of the last stage."""
    epochs: int
    """Epochs of the last stage."""
    metric: float | None
    """Mean of the metric over the seeds; none: a run diverged."""


class Choice(FileSection):
    """What was chosen for an arm at a combination of the other levels."""

    levels: dict[str, str]
    """Level of every axis but the repeats."""
    settings: dict[str, Any]
    """Keys of the last stage that the choice sets, with its name as prefix."""
    length: float
    """Part of the epochs that the arm's budget allows."""
    metric: float | None
    """Mean of the metric over the seeds; none: every candidate diverged, and the recipe is taken as it is written."""
    candidates: tuple[Candidate, ...]
    """Every candidate."""
    gain: float | None
    """What twice the epochs gain, on a schedule of their own, in points of validation_top1 over all validation images, averaged
    over the seeds; none: unknown, because a run diverged or has no such metric."""
    converged: bool | None
    """Whether the gain is less than one point; none: unknown. Twice the epochs are those of the last stage only."""
    runs: str | None = None
    """Hash of the runs of its candidates, whatever the names of the levels; none: chosen by an earlier version."""


class Choices(FileSection):
    """Choices of a study."""

    command: str
    """Command that makes them again."""
    digest: str
    """Hash of everything that they depend on."""
    match: Match
    """What the arms have in common."""
    metric: str
    """Metric that decided."""
    seeds: tuple[int, ...]
    """Seeds of the runs."""
    choices: tuple[Choice, ...]
    """A choice for every combination of levels."""

    def of(self, levels: Mapping[str, str]) -> Choice | None:
        """Return the choice for a cell or row with these levels, or None if there is none."""
        return next((choice for choice in self.choices if choice.levels.items() <= levels.items()), None)


def read_choices(path: Path) -> Choices | None:
    """Return the choices in a file, or None if there is no file; raise UserError if it is damaged."""
    if not path_exists(path):
        return None
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise _damaged(path, reason_of(error)) from error
    return choices_of(content, path)


def choices_of(content: Any, path: Path) -> Choices:
    """Return the content of a file as choices; raise UserError that names `path` for anything else."""
    if not isinstance(content, dict):
        raise _damaged(path, "not a mapping")
    choices, problems = read(Choices, values_of(content))
    if choices is None:
        raise _damaged(path, f"{problems[0].splitlines()[0]}{f' and {len(problems) - 1} more' if problems[1:] else ''}")
    assert isinstance(choices, Choices)
    return choices


def _damaged(path: Path, reason: str) -> UserError:
    """Return the error about a file that holds no choices."""
    return UserError(
        f"{path}: does not hold the choices of a study ({reason}). Delete it: the study makes its choices again."
    )


def write_choices(choices: Choices, path: Path) -> None:
    """Write choices to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, HEADER + dump_yaml(to_mapping(choices)), concurrent_writers=True)
