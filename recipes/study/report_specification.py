"""What a study's file asks of its report: a comparison of levels, or of our numbers with a published table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Price:
    """What a label and an hour of a device cost."""

    label: float
    device_hour: float
    currency: str


@dataclass(frozen=True)
class ReportSpec:
    """Report that compares levels: metric, axis of the curves (`x`), axis of the repeats, and pairs of (base, other) levels."""

    metric: str
    metric_name: str
    x: str
    x_name: str
    repeats: str
    compare: Mapping[str, tuple[str, str]]
    titles: Mapping[str, str]
    notes: tuple[str, ...]
    saving_at: str | None = None
    """Level of `x` at which label savings are declared; None: the smallest one."""
    higher_is_better: bool | None = None
    """Direction of the metric; None: that of its name."""
    metric_range: tuple[float, float] | None = None
    """Smallest and largest possible value of the metric; None: those of its name, if it has any."""
    price: Price | None = None
    """Prices of labels and compute; None: not known."""
    starts: tuple[str, ...] = ()
    """Further levels of the first compared axis: weights that others trained, then what continues from them."""
    skipped: tuple[str, ...] = ()
    """Sentences on what the study lacks, and why."""
    counts_labels: bool = True
    """Whether the levels of `x` are amounts of labels, so that they can be saved; otherwise those of any other key."""
    is_fraction: bool = True
    """Whether these amounts are fractions of all labels."""


@dataclass(frozen=True)
class Figure:
    """Figure of a report on a published table.

    rows: our value and the published one for each row. curve: the metric against the numbers in column `x`, one line per setting of
    the other columns. layers: the metrics `<metric>_00`, `_01`, ... of each row against their number. distribution: the fraction of
    the levels of axis `x` whose error (100 - metric) is at most the value on the horizontal axis, one line per row. gap: the
    difference between the metric at the last value of column `x` and at each other value.
    """

    kind: Literal["rows", "curve", "layers", "distribution", "gap"]
    x: str | None = None
    panels: str | None = None
    """Column whose values each get a panel."""


@dataclass(frozen=True)
class Pair:
    """A claim of the paper about two rows, each identified by columns and values: `other` is above `base`."""

    claim: str
    base: Mapping[str, Any]
    other: Mapping[str, Any]


@dataclass(frozen=True)
class TableReportSpec:
    """Report that compares a study with a published table: our metric for each published column, a figure, and claims."""

    table: str | None
    """Name of the table in studies/published/papers.yaml; None if the paper prints no numbers."""
    metrics: Mapping[str, str]
    """Our metric by published column; `validation_top1@0.25` is the metric after that fraction of the epochs."""
    repeats: str
    """Axis of the repeats (seeds)."""
    figure: Figure
    pairs: tuple[Pair, ...]
    titles: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def metric(self) -> str:
        """Return the first metric, which a run's output line and the figure show."""
        return next(iter(self.metrics.values()))
