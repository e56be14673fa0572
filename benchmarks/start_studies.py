"""Simulated studies with public weights, for `python -m benchmarks coverage`: the start is compared with the best of four arms.

The best arm from scratch is chosen by the validation images of the reported seeds themselves, as in a report without tuning runs
(`recipes.reports.comparison.starts`): a seed that is lucky for an arm is lucky on its test images, too. All arms have the same
accuracy, or nearly: there the choice is mostly luck, and luck could spoil the intervals. The truth is that of the chosen arm.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from scipy import stats

from benchmarks.simulated_report import SPEC as SIMULATED
from recipes.reports.comparison.cell_values import StudyValues
from recipes.reports.comparison.estimator import Estimator, Levels
from recipes.reports.crossed_effects import CellValues
from recipes.reports.metrics import find_metric
from recipes.reports.statistics import Interval

PUBLIC: Levels = {"stem": "patchify", "training": "public", "fraction": "1.0"}
SCRATCH: tuple[Levels, ...] = tuple(
    {"stem": stem, "training": training, "fraction": "1.0"}
    for stem, training in itertools.product(("patchify", "conv"), ("OST", "TST"))
)
AXES = {"stem": ["patchify", "conv"], "training": ["OST", "TST", "public"], "fraction": ["1.0"]}
SPEC = replace(SIMULATED, starts=("public",))
ACCURACIES: Mapping[str, tuple[float, ...]] = {
    "chosen among equals": (90.0, 90.0, 90.0, 90.0, 90.0),
    "chosen among similar": (89.0, 90.0, 90.5, 91.0, 92.0),
}
"""Accuracy in percent of the arms from scratch, then of public weights."""
SEED, IMAGE, BY_CELL = 0.20, 1.6, 0.6
"""Standard deviations on the latent scale; the seeds' is two to four times that of "calibrated", so that luck weighs more."""
TEST_IMAGES, VALIDATION_IMAGES = 359, 287


def start_intervals(
    title: str, seeds: int, count: int, rng: np.random.Generator
) -> Iterator[tuple[str, str, Interval, float]]:
    """Yield the kind, the name, the interval and the truth of the start and of the effect in its panel, in `count` studies."""
    arms = (*SCRATCH, PUBLIC)
    own = np.sqrt(IMAGE**2 + BY_CELL**2 + 1 + SEED**2)
    means = stats.norm.ppf(np.array(ACCURACIES[title]) / 100) * own
    names = tuple(map(str, range(seeds)))
    for _ in range(count):
        effects = rng.normal(scale=SEED, size=(len(arms), seeds))
        test, validation = (_correct(means, effects, size, rng) for size in (TEST_IMAGES, VALIDATION_IMAGES))
        best = int(validation[: len(SCRATCH)].mean((1, 2)).argmax())
        found = {tuple(arm.values()): CellValues(names, rows) for arm, rows in zip(arms, test, strict=True)}
        values = StudyValues(tuple(AXES), found, {}, dict.fromkeys(found, names), 10.0)
        estimator = Estimator(AXES, SPEC, values, find_metric(SPEC.metric))
        accuracy = ACCURACIES[title]
        start = estimator.sum([(1.0, PUBLIC), (-1.0, SCRATCH[best])])
        yield "start against the chosen arm", "", start, accuracy[-1] - accuracy[best]
        one, two = 2 * (best // 2), 2 * (best // 2) + 1
        effect = estimator.sum([(1.0, SCRATCH[two]), (-1.0, SCRATCH[one])])
        yield "effect with the chosen stem", "", effect, accuracy[two] - accuracy[one]


def _correct(
    means: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    effects: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]",
    images: int,
    rng: np.random.Generator,
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    """Return 100 or 0 for each arm, seed and image."""
    of_images = rng.normal(scale=IMAGE, size=images) + rng.normal(scale=BY_CELL, size=(len(means), images))
    latent = means[:, None, None] + effects[:, :, None] + of_images[:, None, :]
    return 100.0 * (latent + rng.standard_normal(latent.shape) > 0)
