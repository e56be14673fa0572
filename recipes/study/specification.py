"""Owns what a study is: stages, axes of levels, and what its report compares. `study_file` reads one from YAML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.errors import UserError
from recipes.study.scale_rules import Translation, short

REPOSITORY = Path(__file__).resolve().parents[2]
STUDIES = REPOSITORY / "recipes" / "studies"

FACTOR = "*"
"""Ends a key whose value is a factor on what is set for the key."""
UNCHANGED = Translation()


@dataclass(frozen=True)
class Published:
    """Weights that stand for a stage: the `init` of the runs that need it, in words what they are, and their file's digest."""

    init: str
    told: str
    sha256: str | None = None
    """SHA-256 of the file, in 64 lower-case hexadecimal digits; none where it is not checked."""


@dataclass(frozen=True)
class Stage:
    """One step of a study: the module that runs it, its recipe, and what is set on top.

    From the bottom: the scale's `base`, what the study sets (`settings`, then its axes) through the scale's `translations`, and
    `overrides`, which the command line gives. Where there are `published` weights, the stage is not run.
    """

    name: str
    module: str
    recipe: Path
    settings: Mapping[str, Any]
    base: Mapping[str, Any] = field(default_factory=dict)
    translations: Mapping[str, Translation] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    published: Published | None = None


@dataclass(frozen=True)
class Axis:
    """One thing a study varies: its levels by name, each with the keys it sets."""

    name: str
    levels: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What a table prints of each level, by column, where that is more than the level's name."""


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
class Figure:
    """The figure of a table's report.

    rows: a point for each row, ours and the printed one. curve: the metric over the numbers of column `over`, a line for each
    setting of the other columns. layers: the metrics `<metric>_00`, `_01`, ... of each row over their number. distribution: the
    share of the levels of axis `over` with an error (100 - metric) of at most x, a line for each row. gap: how far the metric
    at each value of column `over` is below that at the last value.
    """

    kind: Literal["rows", "curve", "layers", "distribution", "gap"]
    over: str | None = None
    panels: str | None = None
    """Column whose values get a panel each."""


@dataclass(frozen=True)
class Pair:
    """A claim of the paper as two rows, each named by columns and values: `other` is above `base`."""

    claim: str
    base: Mapping[str, Any]
    other: Mapping[str, Any]


@dataclass(frozen=True)
class TableReading:
    """How a report reads a study beside a paper's table: which printed column each metric of ours stands beside."""

    table: str | None
    """Name of the table in studies/printed/papers.yaml, or none where the paper prints no numbers."""
    metrics: Mapping[str, str]
    """Metric of ours by printed column; `validation_top1@0.25` is the metric after that share of the epochs."""
    repeats: str
    """Axis of the repeats (seeds)."""
    figure: Figure
    pairs: tuple[Pair, ...]
    titles: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def metric(self) -> str:
        """Return the first metric: what a run's line and the figure show."""
        return next(iter(self.metrics.values()))


@dataclass(frozen=True)
class Study:
    """A named experiment: a question, stages, axes, and how to read it; `mapping` is what the file `source` says."""

    name: str
    question: str
    stages: tuple[Stage, ...]
    axes: tuple[Axis, ...]
    reading: Reading | TableReading
    mapping: Mapping[str, Any]
    source: str
    scale: str | None = None
    """Name of the scale it is at, or none where it has but one."""

    @property
    def title(self) -> str:
        """Return the name, with the scale where there are several."""
        return f"{self.name} at scale {self.scale}" if self.scale else self.name

    def settings(self, stage: Stage, levels: Mapping[str, str]) -> dict[str, Any]:
        """Return the keys `stage` gets in the cell at `levels` (level by axis).

        A key `name*` multiplies what is set for `name` by then: draws around the best value of each network.
        """
        told = self.addressed(stage, stage.settings)
        for axis in self.axes:
            merge(told, self.addressed(stage, axis.levels[levels[axis.name]]))
        merged = self.addressed(stage, stage.base)
        for key, value in told.items():
            merge(merged, stage.translations.get(key, UNCHANGED).apply(key, value))
        for starred in [key for key in merged if key.endswith(FACTOR)]:
            key, factor = starred.removesuffix(FACTOR), merged.pop(starred)
            if not isinstance(merged.get(key), int | float):
                raise UserError(
                    f"{starred}: multiplies {key}, which neither the study nor its scale sets for {stage.name}."
                )
            merged[key] = short(merged[key] * factor)
        return merged | self.addressed(stage, stage.overrides)

    def columns(self, levels: Mapping[str, str]) -> dict[str, Any]:
        """Return what a table prints of the row at `levels`: column -> value, the repeats left out."""
        printed: dict[str, Any] = {}
        for axis in self.axes:
            if axis.name != self.reading.repeats:
                printed |= axis.columns.get(levels[axis.name], {axis.name: levels[axis.name]})
        return printed

    def touches(self, axis: Axis, stage: Stage) -> bool:
        """Tell whether any level of `axis` sets a key of `stage`."""
        return any(self.addressed(stage, settings) for settings in axis.levels.values())

    def addressed(self, stage: Stage, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys meant for `stage`, without its name; a key with no stage before it is meant for all."""
        others = tuple(f"{other.name}." for other in self.stages if other.name != stage.name)
        return {k.removeprefix(f"{stage.name}."): v for k, v in settings.items() if not k.startswith(others)}


def merge(settings: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Put `more` over `settings`; factors on the same key multiply."""
    for key, value in more.items():
        settings[key] = settings[key] * value if key.endswith(FACTOR) and key in settings else value


def shown(path: Path) -> str:
    """Return `path` as seen from the working folder where it lies below it, otherwise in full."""
    absolute, here = path.absolute(), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
