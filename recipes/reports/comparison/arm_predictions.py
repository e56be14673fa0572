"""Predictions of the declared arms for every test image: those of all seeds of an arm at one x, in one array."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.evaluation.predictions import Predictions, read_predictions
from common.files import path_exists
from common.training.run_folder import PREDICTIONS
from recipes.reports.comparison.estimator import Levels
from recipes.reports.comparison.findings import Findings
from recipes.reports.results import RunRecord, StudyRecord


@dataclass(frozen=True, eq=False)
class ArmPredictions:
    """Classes predicted by the runs of an arm at one x. Shapes: S seeds, N test images."""

    levels: Levels
    seeds: tuple[str, ...]
    images: tuple[str, ...]
    target: npt.NDArray[np.int32]
    """(N,)."""
    predicted: npt.NDArray[np.int32]
    """(S, N)."""
    confidence: npt.NDArray[np.float32] | None
    """(S, N) probability of the predicted class; None where a run has none."""
    class_names: tuple[str, ...]
    fingerprint: str
    run: RunRecord
    """One of the runs, whose recipe names the data."""

    @property
    def is_correct(self) -> npt.NDArray[np.bool_]:
        """Return (S, N) whether the predicted class is the label."""
        return np.asarray(self.predicted == self.target)


@dataclass(frozen=True)
class ArmPair:
    """The two arms of the first declared claim at one x, evaluated on the same images in the same order."""

    x: str
    base: ArmPredictions
    other: ArmPredictions


def declared_pairs(study: StudyRecord, findings: Findings) -> list[ArmPair]:
    """Return the arms of the first claim at the smallest and at the largest x; none where runs lack predictions of classes."""
    main, panel = findings.main, findings.claims[0].levels
    pairs = []
    for x in dict.fromkeys((findings.x[0], findings.x[-1])):
        ends = [read_arm(study, {**panel, findings.spec.x: x, main.axis: name}) for name in (main.base, main.other)]
        if (base := ends[0]) is not None and (other := ends[1]) is not None and base.images == other.images:
            pairs.append(ArmPair(x, base, other))
    return pairs


def read_arm(study: StudyRecord, levels: Levels) -> ArmPredictions | None:
    """Return the predictions of the usable runs at `levels`, by repeat; None if one has none, or of other images."""
    repeats = study.plan.study.report.repeats
    runs = {
        cell.levels[repeats]: study.final_run(cell)
        for cell in study.plan.cells
        if all(cell.levels[axis] == level for axis, level in levels.items()) and study.final_run(cell).is_usable
    }
    paths = [run.folder / PREDICTIONS for run in runs.values()]
    if not paths or not all(map(path_exists, paths)):
        return None
    found = [read_predictions(path) for path in paths]
    first = found[0]
    if not first.class_names or any(_facts(each) != _facts(first) for each in found):
        return None
    scores = [each.scores[:, 0] for each in found if each.scores is not None]
    return ArmPredictions(
        levels,
        tuple(runs),
        first.images,
        first.target,
        np.stack([each.prediction for each in found]),
        np.stack(scores) if len(scores) == len(found) else None,
        first.class_names,
        first.fingerprint,
        next(iter(runs.values())),
    )


def _facts(predictions: Predictions) -> tuple[object, ...]:
    """Return what the runs of an arm have in common."""
    return predictions.images, predictions.target.tobytes(), predictions.class_names
