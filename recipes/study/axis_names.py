"""Names that an axis cannot have: a report has columns and metrics of these names beside those of the axes."""

import re
from collections.abc import Iterable, Iterator

from recipes.study.report_specification import ReportSpec, TableReportSpec
from recipes.study.specification import RUN_COLUMNS

REPORT_COLUMNS = (
    *("diverged", "is_usable", "epoch", "name", "value", "crashed"),
    *("runs", "shared_by", "hours", "earlier_hours", "earlier_seconds", "earlier_macs", "amortized_seconds"),
    *("total_seconds", "standalone_seconds", "standalone_macs", "standalone_device_hours"),
)
"""Columns of a report's frames beside `RUN_COLUMNS`: of cells, of curves, and of the costs of arms."""

_METRIC = re.compile(
    r"(test|validation)_(subset_)?(images|loss|ece|top[15]|map|rank\d+|auroc|balanced_accuracy|macro_f1)"
    r"|train_loss|(best_)?(knn_top1|feature_rank)(_untrained)?|teacher_entropy|kl"
)
"""Metrics of the stages that reports know by name; a metric that is not among them gives way to an axis of its name."""


def taken_names(axes: Iterable[str], report: ReportSpec | TableReportSpec | None = None) -> Iterator[str]:
    """Yield a problem for every axis with the name of a column or metric; with a `report`, only for those of its own metrics."""
    reported = report.metrics.values() if isinstance(report, TableReportSpec) else [report.metric] if report else []
    metrics = {metric.partition("@")[0] for metric in reported}
    for name in axes:
        if report is not None:
            what = "a metric of the report" if name in metrics and not _METRIC.fullmatch(name) else ""
        elif name in RUN_COLUMNS:
            what = "a column of results.csv"
        elif name in REPORT_COLUMNS:
            what = "a column of the report"
        else:
            what = "a metric of the runs" if _METRIC.fullmatch(name) else ""
        if what:
            yield f"axes.{name}: is the name of {what}. Choose another name for the axis."
