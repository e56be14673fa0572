"""What the last word of a metric's name says about it: its direction, and whether it is in percent."""

LOWER_IS_BETTER = ("loss", "ece", "kl")
"""Last words of the names of metrics of which a lower value is better."""
PERCENT = ("top1", "top5", "ece", "map", "rank1", "rank5", "rank10", "accuracy", "f1", "auroc")
"""Last words of the names of metrics in percent."""


def last_word(metric: str) -> str:
    """Return the last word of a metric's name: `top1` of `test_top1`."""
    return metric.rpartition("_")[2]


def has_error(metric: str) -> bool:
    """Return whether 100 - metric is an error: the metric is in percent, and a higher value is better."""
    return last_word(metric) in PERCENT and last_word(metric) not in LOWER_IS_BETTER
