"""The metric of a sized study, and what its test images allow to say by it."""

from collections.abc import Iterator

from common.errors import quoted
from recipes.sizing.facts import ImageFacts

IMBALANCE = 2
"""How many times as many images the largest class has as the smallest one, for a metric that counts classes alike."""
FEW = 10
"""Test images of a class, below which intervals of a mean over classes are over seeds alone (docs/statistics.md)."""


def is_balanced(facts: ImageFacts) -> bool:
    """Return whether the arms are compared by balanced accuracy."""
    return facts.imbalance >= IMBALANCE


def metric_notes(facts: ImageFacts) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and reason: of the metric, and of classes with too few test images for it."""
    sizes = f"classes of {min(facts.class_counts)} to {max(facts.class_counts)} training images"
    if is_balanced(facts):
        yield "metric", "balanced accuracy", f"{sizes}: every class counts alike, whatever its size"
    else:
        yield (
            "metric",
            "top-1 accuracy",
            f"{sizes}: the largest has less than {IMBALANCE} times as many as the smallest",
        )
    if reasons := list(_few_test_images(facts)):
        yield "test images of a class", _range(facts), "; ".join(reasons)


def _range(facts: ImageFacts) -> str:
    """Return the smallest and the largest number of test images of a class."""
    counts = facts.test_counts.values()
    return f"{min(counts)} to {max(counts)}"


def _few_test_images(facts: ImageFacts) -> Iterator[str]:
    """Yield what follows from classes with no or with few test images."""
    tested = {name: count for name, count in facts.test_counts.items() if count}
    if untested := [name for name in facts.test_counts if name not in tested]:
        yield f"none of {quoted(untested, limit=3)}, of which no metric tells anything"
    few = [name for name, count in tested.items() if count < FEW]
    if few and is_balanced(facts):
        fewest = min(tested, key=tested.__getitem__)
        points = 100 / len(tested) / tested[fewest]
        yield (
            f"fewer than {FEW} in {len(few)} of {len(facts.test_counts)} classes, so the intervals are over seeds alone: one"
            f" image of '{fewest}' is {points:.1f} points. Add images, leave small classes out (data.leave_out), or join them"
        )
