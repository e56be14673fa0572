"""Forms of the section `report` of a study file (`report_spec` has an example of each), of its metrics and of its figures."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from common.config_messages import FORM, TYPE, Otherwise
from recipes.study.axis_forms import PublishedTableName
from recipes.study.sections import NAMED, FileSection


def _check_metric(name: str) -> str:
    """Return the name of a metric; raise for one with a part of the epochs."""
    metric, at, fraction = name.partition("@")
    if at:
        field = f"{{metric: {metric}, at: {fraction}}}"
        raise PydanticCustomError(TYPE, f"the part of the epochs has a field of its own. Replace it by {field}.")
    return name


MetricName = Annotated[str, Field(min_length=1), AfterValidator(_check_metric)]
"""Name of a metric of a run."""


class MetricDuringTraining(FileSection):
    """A metric that is measured during training, after a part of the epochs."""

    metric: MetricName
    """Name of the metric, such as validation_top1."""
    at: Annotated[float, Field(gt=0, le=1)]
    """Part of the epochs, in (0, 1]."""


def _metric_form(value: Any) -> str | None:
    """Return the form of a metric."""
    return "part" if isinstance(value, dict | MetricDuringTraining) else None if isinstance(value, list) else "name"


Metric = Annotated[
    Annotated[MetricName, Tag("name")] | Annotated[MetricDuringTraining, Tag("part")],
    Discriminator(
        _metric_form,
        custom_error_type=TYPE,
        custom_error_message="must be the name of a metric, or {metric: <name>, at: <part of the epochs>}.",
    ),
]
"""A metric, at the end of a run or during training."""


class FigureOfRows(FileSection):
    """A figure without a horizontal axis of the study's own."""

    kind: Literal["rows", "layers"]
    """rows: our value and the published one for each row; layers: the metric of each row by layer."""
    panels: str | None = None
    """Column whose values each get a panel."""


class FigureAlong(FileSection):
    """A figure along a column or an axis."""

    kind: Literal["curve", "distribution", "gap"]
    """curve: the metric against the numbers in x; distribution: the fraction of the levels of x within an error; gap: the
    difference between the metric at the last value of x and at each other one."""
    x: str
    """Column of numbers, or axis of the draws of a distribution."""
    panels: str | None = None
    """Column whose values each get a panel."""


_FIGURES: dict[str, type[FileSection]] = {"rows": FigureOfRows, "along": FigureAlong}
_KINDS = {str(kind): name for name, form in _FIGURES.items() for kind in get_args(form.model_fields["kind"].annotation)}


def _figure_form(value: Any) -> str | None:
    """Return the form of a figure by its kind, or None if it has none of the kinds."""
    if not isinstance(value, dict):
        return next((name for name, form in _FIGURES.items() if isinstance(value, form)), None)
    kind = value.get("kind")
    return _KINDS.get(kind) if isinstance(kind, str) else None


class PairEntry(FileSection):
    """A claim of the paper about two rows: `other` is above `base`."""

    claim: str
    """The claim, as a sentence."""
    base: Annotated[dict[str, Any], *NAMED]
    """Columns and values of a row."""
    other: Annotated[dict[str, Any], *NAMED]
    """Columns and values of the row that is above `base`."""


TwoLevels = Annotated[tuple[Any, ...], Field(json_schema_extra={"minItems": 2, "maxItems": 2})]
"""Two levels of an axis, whose number is checked together with their names."""


class PriceEntry(FileSection):
    """What labels and compute cost: the report weighs the labels that an arm saves against its device-hours."""

    label: Annotated[float, Field(gt=0), Otherwise("must be a price above 0.")]
    """Price of a label."""
    device_hour: Annotated[float, Field(gt=0), Otherwise("must be a price above 0.")]
    """Price of an hour of a device, in the same currency."""
    currency: Annotated[str, Field(min_length=1, max_length=12)] = "USD"
    """Currency of both prices, as the report prints it."""


class ComparisonReport(FileSection):
    """A comparison of levels along a curve."""

    metric: MetricName
    """Metric of the last stage that is compared."""
    x: str
    """Axis of the curves, whose levels are numbers."""
    repeats: str
    """Axis of the repeats, over which intervals are computed."""
    compare: Annotated[dict[str, TwoLevels], *NAMED]
    """Axes that are compared, the most important first: two levels of each, [base, other]."""
    starts: Annotated[tuple[Any, ...], Field(max_length=2), Otherwise("must be one or two levels.")] = ()
    """Further levels of the first compared axis, of which the report says whether to use them: weights that others trained, then
    what continues from them. The first is compared with the best arm from scratch (of the compared levels, the one that validation
    images prefer), the second with the first."""
    metric_name: str | None = None
    """Name of the metric in the report; default: the metric."""
    x_name: str | None = None
    """Name of the axis of the curves in the report; default: the axis."""
    saving_at: Any = None
    """Level of x at which the labels saved are declared as a claim; default: the smallest one."""
    higher_is_better: bool | None = None
    """Whether a higher value of the metric is better; default: by its name (not for a loss or a calibration error)."""
    metric_range: tuple[float, float] | None = None
    """Smallest and largest possible value of the metric, such as [0, 1]; default: [0, 100] for accuracies and mAP."""
    price: PriceEntry | None = None
    """Prices of a label and of a device-hour; default: the report gives device-hours alone."""
    titles: dict[str, str] = {}
    """Names of axes and levels in the report."""
    notes: tuple[str, ...] = ()
    """Sentences that the report ends with."""
    skipped: tuple[str, ...] = ()
    """Sentences on what the study lacks, and why, such as weights that cannot be downloaded; on the report's first screen."""


class TableReport(FileSection):
    """A comparison with a published table."""

    table: PublishedTableName | None = None
    """Name of the table in recipes/studies/published/papers.yaml; none if the paper prints no numbers."""
    metrics: Annotated[dict[str, Metric], *NAMED]
    """Metric of the last stage by published column; the first one is shown in the figure."""
    repeats: str
    """Axis of the repeats, over which intervals are computed."""
    figure: Annotated[
        Annotated[FigureOfRows, Tag("rows")] | Annotated[FigureAlong, Tag("along")],
        Discriminator(
            _figure_form,
            custom_error_type=FORM,
            custom_error_message=f"kind must be one of {', '.join(_KINDS)}.",
        ),
    ]
    """Figure of the report."""
    pairs: tuple[PairEntry, ...] = ()
    """Claims of the paper, which the report tests."""
    titles: dict[str, str] = {}
    """Names of columns and values in the report."""
    notes: tuple[str, ...] = ()
    """Sentences that the report ends with."""


def _report_form(value: Any) -> str | None:
    """Return the form of a report: a table has several metrics."""
    if isinstance(value, dict):
        return "table" if "metrics" in value else "comparison"
    return "table" if isinstance(value, TableReport) else "comparison" if isinstance(value, ComparisonReport) else None


ReportEntry = Annotated[
    Annotated[ComparisonReport, Tag("comparison")] | Annotated[TableReport, Tag("table")],
    Discriminator(
        _report_form,
        custom_error_type=TYPE,
        custom_error_message="must be a mapping with metric or metrics, and repeats.",
    ),
]
"""The report of a study, in one of its forms."""
