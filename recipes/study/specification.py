"""Specification of a study: its stages, its axes of levels, and its report. `study_file` reads it from YAML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.errors import UserError
from common.yaml_words import as_value
from recipes.result import RESULT_FIELDS
from recipes.study.absent_cells import is_removed
from recipes.study.ray_section import RayEntry
from recipes.study.report_specification import ReportSpec, TableReportSpec
from recipes.study.scale_rules import ScaleRule, is_numeric, round_product
from recipes.study.slurm_section import SlurmEntry
from recipes.study.stated_choice import StatedChoice

REPOSITORY = Path(__file__).resolve().parents[2]
STUDIES = REPOSITORY / "recipes" / "studies"

UNCHANGED = ScaleRule()

BASELINES = "baselines"
"""Name of the stage of a study's baselines."""
FEATURES = "features"
"""Key of a baseline's levels that says what it classifies: pre-trained, untrained or pixels."""
PIXELS, UNTRAINED = "pixels", "untrained"
"""The value of `FEATURES` of a baseline that has no network."""

RUN_COLUMNS = ("run", "stage", "state", *RESULT_FIELDS, "macs", "data_digest", "starts_from")
"""Columns of a report's frame of runs, and of results.csv; an axis has another name."""

Match = Literal["compute", "steps", "none"]
"""What the arms of a study have in common: the MACs of all their stages, their optimizer steps, or only their recipes."""


@dataclass(frozen=True)
class PublishedWeights:
    """Published weights that replace a stage: `init` of the runs that need it, a description, and the digest of the file."""

    init: str
    description: str
    sha256: str | None = None
    """SHA-256 of the file, as 64 lower-case hexadecimal digits; None: not verified."""


@dataclass(frozen=True)
class Stage:
    """A stage of a study: its module, its recipe, and the settings on top of the recipe.

    From lowest to highest precedence: the scale's `base`; the study's `settings` and axes, converted by the scale's `scale_rules`;
    the product of all `factors`; `overrides` from the command line; what the study's `adjusted` sets in a cell. A stage with
    `published` weights is not run.
    """

    name: str
    module: str
    recipe: Path
    settings: Mapping[str, Any]
    base: Mapping[str, Any] = field(default_factory=dict)
    scale_rules: Mapping[str, ScaleRule] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    published: PublishedWeights | None = None
    factors: tuple[Mapping[str, float], ...] = ()
    """Factors by key, of the study and of its scale."""
    starts_from: str | None = None
    """Earlier stage whose run this one starts from, where a level names no other."""


@dataclass(frozen=True)
class Axis:
    """A factor that a study varies: its levels by name, each with the keys it sets."""

    name: str
    levels: Mapping[str, Mapping[str, Any]]
    columns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Table columns of each level, if they differ from a single column with the level's name."""
    factors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Factors by key of each level that has any."""
    starts_from: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """What each level that changes it makes stages start from, by stage."""
    stages: tuple[str, ...] = ()
    """Stages whose runs differ by its levels although it sets none of their keys: a study's `adjusted` does."""

    def all_keys(self) -> list[str]:
        """Return every key that a level sets or multiplies."""
        return list(
            dict.fromkeys(key for part in (self.levels, self.factors) for keys in part.values() for key in keys)
        )


@dataclass(frozen=True)
class Tune:
    """Candidates of each arm's length and of other keys of the last stage, the seeds they run on, and the metric that decides."""

    seeds: tuple[int, ...]
    lengths: tuple[float, ...]
    """Parts of the epochs that the arm's budget allows."""
    values: Mapping[str, tuple[Any, ...]]
    """Values by key of the last stage, without its name as prefix."""
    metric: str


@dataclass(frozen=True)
class Study:
    """A named experiment: a question, stages, axes and a report spec; `mapping` is the content of the file `source`."""

    name: str
    question: str
    stages: tuple[Stage, ...]
    axes: tuple[Axis, ...]
    report: ReportSpec | TableReportSpec
    mapping: Mapping[str, Any]
    source: str
    scale: str | None = None
    """Name of the scale; None if the study has only one."""
    match: Match = "none"
    budget_macs: float | None = None
    """MACs that every arm may spend (`match: compute`); None: those of the arm that costs most as written."""
    tune: Tune | None = None
    baselines: Stage | None = None
    """Stage that evaluates frozen features and pixels for every cell (`baselines`); None: there are no baselines."""
    epochs_factor: float = 1.0
    """Factor on the epochs of every stage of every arm, after matching and choices."""
    without: tuple[Mapping[str, str], ...] = ()
    """Combinations of levels that are no cells (`without`)."""
    kept: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Levels that are run of the axes that are not run whole (`kept_levels`)."""
    sizing: tuple[StatedChoice, ...] = ()
    """How it was sized, for the report."""
    slurm: SlurmEntry = field(default_factory=SlurmEntry)
    """What each run asks of a Slurm cluster."""
    ray: RayEntry = field(default_factory=RayEntry)
    """The Ray cluster, and what each run asks of it."""
    adjusted: Mapping[tuple[str, ...], Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Keys by stage that a cell gets on top of everything else: by `cell_key`, lengths and choices of `matching` and `tuning`."""

    @property
    def title(self) -> str:
        """Return the name, and the scale if the study has several."""
        return f"{self.name} at scale {self.scale}" if self.scale else self.name

    def settings(self, stage: Stage, levels: Mapping[str, str]) -> dict[str, Any]:
        """Return the keys of `stage` in the cell at `levels` (level by axis)."""
        factors: dict[str, float] = {}
        for part in (*stage.factors, *(axis.factors.get(levels[axis.name], {}) for axis in self.axes)):
            _multiply(factors, self.keys_of(stage, part))
        settings = self.keys_of(stage, stage.base)
        for key, value in self._study_settings(stage, levels).items():
            rule = stage.scale_rules.get(key, UNCHANGED)
            settings |= rule.apply(key, value)
            _multiply(factors, rule.factors_of(value))
        for key, factor in factors.items():
            value = as_value(settings.get(key))
            if not is_numeric(value):
                raise UserError(
                    f"factors.{key}: multiplies {key}, which neither the study nor its scale sets for {stage.name}."
                )
            settings[key] = round_product(value * factor)
        settings |= self.keys_of(stage, stage.overrides)
        return {**settings, **self.adjusted.get(self.cell_key(levels), {}).get(stage.name, {})}

    @property
    def size(self) -> str:
        """Return the axes with their numbers of levels, and the combinations that are no cells: `stem (2) × seed (3)`."""
        axes = " × ".join(f"{axis.name} ({len(axis.levels)})" for axis in self.axes)
        return axes + "".join(f", except {' with '.join(entry.values())}" for entry in self.without)

    def has_cell(self, levels: Mapping[str, str]) -> bool:
        """Return whether levels, of all axes or of some, are those of a cell: `without` does not remove them."""
        return not is_removed(levels, self.without)

    @property
    def arm_axis(self) -> Axis | None:
        """Return the axis whose levels are the arms: the first compared one; in a table, one that changes where stages start."""
        first = list(self.report.compare)[:1] if isinstance(self.report, ReportSpec) else None
        return next((axis for axis in self.axes if (axis.starts_from if first is None else axis.name in first)), None)

    def cell_key(self, levels: Mapping[str, str]) -> tuple[str, ...]:
        """Return the levels of a cell in the order of the axes."""
        return tuple(levels[axis.name] for axis in self.axes)

    def start_of(self, stage: Stage, levels: Mapping[str, str]) -> str | None:
        """Return the stage whose run `stage` starts from in the cell at `levels`, or None if it starts from no run."""
        start = stage.starts_from
        for axis in self.axes:
            start = axis.starts_from.get(levels[axis.name], {}).get(stage.name, start)
        for key, value in self._study_settings(stage, levels).items():
            start = stage.scale_rules.get(key, UNCHANGED).starts_of(value).get(stage.name, start)
        return start

    def _study_settings(self, stage: Stage, levels: Mapping[str, str]) -> dict[str, Any]:
        """Return the keys that the study sets for `stage` in the cell at `levels`, in the study's own terms."""
        settings = self.keys_of(stage, stage.settings)
        for axis in self.axes:
            settings |= self.keys_of(stage, axis.levels[levels[axis.name]])
        return settings

    def columns(self, levels: Mapping[str, str]) -> dict[str, Any]:
        """Return the table columns of the row at `levels`, without the repeats: column -> value."""
        columns: dict[str, Any] = {}
        for axis in self.axes:
            if axis.name != self.report.repeats:
                columns |= axis.columns.get(levels[axis.name], {axis.name: levels[axis.name]})
        return columns

    def affects(self, axis: Axis, stage: Stage) -> bool:
        """Return whether any level of `axis` sets or multiplies a key of `stage`, or makes it start from another stage."""
        starts = [stage.name in starts for starts in axis.starts_from.values()]
        return stage.name in axis.stages or any(starts) or bool(self.keys_of(stage, dict.fromkeys(axis.all_keys())))

    def keys_of(self, stage: Stage, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of `stage`, without the stage's name as prefix; a key without a prefix belongs to all stages."""
        others = tuple(f"{other.name}." for other in self.stages if other.name != stage.name)
        return {k.removeprefix(f"{stage.name}."): v for k, v in settings.items() if not k.startswith(others)}


def _multiply(factors: dict[str, float], more: Mapping[str, float]) -> None:
    """Multiply `factors` by `more`, key by key."""
    for key, factor in more.items():
        factors[key] = factors.get(key, 1.0) * factor
