"""Direction, range and unit of a metric."""

import math
from dataclasses import dataclass

from recipes.study.metric_names import LOWER_IS_BETTER, PERCENT, last_word

EQUIVALENCE_MARGIN = 0.01
"""Differences within this fraction of the metric's range count as none: 1 point of an accuracy."""


@dataclass(frozen=True)
class Metric:
    """A metric of a run as reports treat it."""

    name: str
    higher_is_better: bool
    range: tuple[float, float] | None
    """Smallest and largest possible value; None if it is unbounded."""

    @property
    def in_percent(self) -> bool:
        """Return whether differences are in percentage points."""
        return self.range == (0.0, 100.0)

    @property
    def span(self) -> float:
        """Return the width of the range, 0 if it is unbounded."""
        return self.range[1] - self.range[0] if self.range else 0.0

    @property
    def margin(self) -> float | None:
        """Return the largest difference that counts as equivalent; None without a range."""
        return EQUIVALENCE_MARGIN * self.span if self.range else None

    @property
    def digits(self) -> int:
        """Return the number of decimals of a value."""
        return 1 if self.range and self.span >= 10 else 3

    def chance(self, num_classes: int | None) -> float | None:
        """Return the value of an uninformative prediction, for which a diverged run counts; None if it is unknown."""
        kind = last_word(self.name)
        if kind == "loss" and num_classes:
            return math.log(num_classes)
        if kind in ("top1", "top5") and num_classes:
            return 100.0 * min(int(kind[3:]), num_classes) / num_classes
        if self.name.endswith(("balanced_accuracy", "macro_f1")) and num_classes:
            return 100.0 / num_classes
        if kind == "auroc":
            return 50.0
        if self.range is None:
            return None
        return self.range[0] if self.higher_is_better else self.range[1]


def find_metric(
    name: str, *, higher_is_better: bool | None = None, limits: tuple[float, float] | None = None
) -> Metric:
    """Return a metric by its name; direction and range as given, otherwise those of its last word."""
    kind = last_word(name)
    if higher_is_better is None:
        higher_is_better = kind not in LOWER_IS_BETTER
    return Metric(name, higher_is_better, limits or ((0.0, 100.0) if kind in PERCENT else None))


def validation_metric(metric: str) -> str:
    """Return the metric on the validation images that belongs to a metric on the test images."""
    return f"validation_{metric.removeprefix('test_')}"
