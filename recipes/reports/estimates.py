"""Estimates from the values of cells: means and weighted sums, with bounds that the metric's range allows."""

from collections.abc import Sequence
from dataclasses import replace

from recipes.reports.crossed_effects import CellValues, Term, estimate
from recipes.reports.metrics import Metric
from recipes.reports.statistics import Interval, bounded_interval


def cell_mean(cell: CellValues, metric: Metric, image_weight: float = 1.0) -> Interval:
    """Return the mean of a cell, whose interval stays within the metric's range.

    `image_weight`: how much more a test image counts than in a mean over images (`common.evaluation.predictions.image_weight`).
    """
    found = weighted_sum([Term(1.0, cell, "")], metric, image_weight)
    return bounded_interval(found, *metric.range) if metric.range else found


def weighted_sum(terms: Sequence[Term], metric: Metric, image_weight: float = 1.0) -> Interval:
    """Return the weighted sum of the means of cells; its interval stays within what the metric's range allows."""
    found = estimate(terms, span=metric.span * image_weight)
    if metric.range is None or not found.is_known:
        return found
    low, high = metric.range
    least = sum(term.weight * (low if term.weight > 0 else high) for term in terms)
    most = sum(term.weight * (high if term.weight > 0 else low) for term in terms)
    if not least <= found.mean <= most:  # the study's `report.metric_range` is not that of the metric
        return found
    return replace(found, low=max(found.low, least), high=min(found.high, most))
