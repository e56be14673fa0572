"""Earlier runs that the cells of a study start from: which are shared by repeats, and which collapsed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from recipes.reports.comparison.cell_values import Key, StudyValues
from recipes.reports.comparison.estimator import Levels
from recipes.reports.results import StudyRecord

COLLAPSED = "collapsed"
"""Beginning of the statuses of a collapsed run, `RunStatus.COLLAPSED_*`."""

KNN, KNN_AT_START = "knn_top1", "knn_top1_untrained"
"""Metrics of a pre-training: k-NN accuracy on the validation images at its end, and before its first step."""


@dataclass(frozen=True)
class EarlierRuns:
    """The runs of earlier stages that each repeat of a cell starts from, directly or through others."""

    by_cell: Mapping[Key, Mapping[str, tuple[str, ...]]]
    """Ids of the runs by repeat."""
    stages: Mapping[str, str]
    """Stage of each run."""
    collapsed: Mapping[str, str]
    """Status of the runs that collapsed."""
    not_improved: frozenset[str]
    """Runs that did not collapse, but whose k-NN accuracy on validation images is no better at their end than at their start."""
    published: Mapping[Key, str]
    """Stage whose published weights all repeats of a cell start from."""

    def of(self, keys: Iterable[Key]) -> list[str]:
        """Return the runs that these cells start from."""
        return list(dict.fromkeys(run for key in keys for runs in self.by_cell[key].values() for run in runs))

    def is_shared(self, key: Key) -> bool:
        """Return whether two repeats of a cell start from the same run, or from the same published weights."""
        runs = [run for run in self.by_cell[key].values() if run]
        return key in self.published or len(set(runs)) < len(runs)


def find_earlier_runs(study: StudyRecord, values: StudyValues, repeats: str) -> EarlierRuns:
    """Return the earlier runs of every cell of a study."""
    by_cell: dict[Key, dict[str, tuple[str, ...]]] = {}
    published: dict[Key, str] = {}
    last, weights = study.plan.study.stages[-1], {stage.name for stage in study.plan.study.stages if stage.published}
    for cell in study.plan.cells:
        key = values.key(cell.levels)
        earlier = tuple(run for stage, run in cell.runs.items() if stage != last.name)
        by_cell.setdefault(key, {})[cell.levels[repeats]] = earlier
        start = study.plan.study.start_of(last, cell.levels)
        if start in weights and start is not None:
            published[key] = start
    statuses = {name: run.result.status for name, run in study.runs.items() if run.result}
    collapsed = {name: status for name, status in statuses.items() if status.startswith(COLLAPSED)}
    metrics = {name: run.result.metrics for name, run in study.runs.items() if run.result and name not in collapsed}
    same = frozenset(name for name, found in metrics.items() if found.get(KNN, 0.0) <= found.get(KNN_AT_START, -1.0))
    stages = {name: run.planned.stage for name, run in study.runs.items()}
    return EarlierRuns(by_cell, stages, collapsed, same, published)


def collapsed_runs(earlier: EarlierRuns, values: StudyValues, cells: Iterable[Levels]) -> tuple[list[str], list[str]]:
    """Return the earlier runs that cells start from, and those of them that collapsed."""
    runs = earlier.of(map(values.key, cells))
    return runs, [run for run in runs if run in earlier.collapsed]
