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
    """The two arms of a declared claim at one x, evaluated on the same images in the same order."""

    claim: str
    """Name of the claim: effect, or one on a further start."""
    x: str
    base: ArmPredictions
    other: ArmPredictions


def declared_pairs(study: StudyRecord, findings: Findings) -> list[ArmPair]:
    """Return the arms of the first claim at the smallest and at the largest x, then at the largest those of claims on starts.

    Pairs whose runs lack predictions of classes are left out.
    """
    main, panel, ends = findings.main, findings.claims[0].levels, (findings.x[0], findings.x[-1])
    wanted = [("effect", x, tuple({**panel, main.axis: name} for name in (main.base, main.other))) for x in ends]
    if findings.starts is not None:
        wanted += [(name, ends[-1], tuple(map(dict, pair))) for name, pair in findings.starts.pairs.items()]
    pairs: dict[tuple[str, str], ArmPair] = {}
    for claim, x, arms in wanted:
        base, other = (read_arm(study, {**arm, findings.spec.x: x}) for arm in arms)
        if base is not None and other is not None and base.images == other.images:
            pairs[claim, x] = ArmPair(claim, x, base, other)
    return list(pairs.values())


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
