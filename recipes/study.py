"""Owns what a study is: stages, axes of levels, and what its report compares. `study_file` reads one from YAML."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
STUDIES = Path(__file__).resolve().parent / "studies"


@dataclass(frozen=True)
class Stage:
    """One step of a study: the module that runs it, its recipe, and what the study sets on top."""

    name: str
    module: str
    recipe: Path
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Axis:
    """One thing a study varies: its levels by name, each with the keys it sets."""

    name: str
    levels: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Reading:
    """How a report reads a study: metric, axis of the curves, axis of the repeats, (base, other) levels to compare."""

    metric: str
    metric_name: str
    over: str
    over_name: str
    repeats: str
    compare: Mapping[str, tuple[str, str]]
    titles: Mapping[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A named experiment: a question, stages, axes, and how to read it; `mapping` is what the file `source` says."""

    name: str
    question: str
    stages: tuple[Stage, ...]
    axes: tuple[Axis, ...]
    reading: Reading
    mapping: Mapping[str, Any]
    source: str

    def settings(self, stage: Stage, levels: Mapping[str, str]) -> dict[str, Any]:
        """Return the keys `stage` gets in the cell at `levels` (level by axis): the stage's own, then each axis's."""
        merged = self._addressed(stage, stage.settings)
        for axis in self.axes:
            merged |= self._addressed(stage, axis.levels[levels[axis.name]])
        return merged

    def touches(self, axis: Axis, stage: Stage) -> bool:
        """Tell whether any level of `axis` sets a key of `stage`."""
        return any(self._addressed(stage, settings) for settings in axis.levels.values())

    def _addressed(self, stage: Stage, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys meant for `stage`, without its name; a key with no stage before it is meant for all."""
        others = tuple(f"{other.name}." for other in self.stages if other.name != stage.name)
        return {k.removeprefix(f"{stage.name}."): v for k, v in settings.items() if not k.startswith(others)}


def shown(path: Path) -> str:
    """Return `path` as seen from the working folder where it lies below it, otherwise in full."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
