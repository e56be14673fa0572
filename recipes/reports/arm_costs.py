"""Cost of a study: seconds and images by arm, with the amortized cost of the earlier stages that an arm starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.reports.results import RunRecord, StudyRecord
from recipes.study.specification import BASELINES


@dataclass(frozen=True)
class ArmCost:
    """Mean cost of the runs of an arm: wall-clock seconds and images of a run, and seconds of the earlier stages it starts from.

    `shared_by` is the number of runs of the study that start from the same earlier run (0: there is no earlier stage).
    """

    levels: Mapping[str, str]
    runs: int
    seconds: float
    images: float
    images_per_second: float
    earlier_seconds: float
    shared_by: float
    macs: float | None = None
    """MACs of a run, planned; None if they are unknown."""
    earlier_macs: float | None = None
    """MACs of the earlier stages that a run starts from."""

    @property
    def amortized_seconds(self) -> float:
        """Return the seconds of the earlier stages, divided among the runs that share them."""
        return self.earlier_seconds / self.shared_by if self.shared_by else 0.0

    @property
    def total_seconds(self) -> float:
        """Return the seconds of a run plus its amortized earlier stages."""
        return self.seconds + self.amortized_seconds

    @property
    def standalone_seconds(self) -> float:
        """Return the seconds of a run plus its earlier stages in full, as if no other run shared them."""
        return self.seconds + self.earlier_seconds


def arm_costs(study: StudyRecord, axes: Sequence[str]) -> list[ArmCost]:
    """Return the cost of every combination of levels of `axes`, over the completed runs."""
    arms: dict[tuple[str, ...], dict[str, RunRecord]] = {}
    for cell in study.plan.cells:
        run = study.final_run(cell)
        if run.result:
            arms.setdefault(tuple(cell.levels[axis] for axis in axes), {})[run.planned.id] = run
    return [
        _arm_cost(study, dict(zip(axes, levels, strict=True)), list(runs.values())) for levels, runs in arms.items()
    ]


def stage_seconds(study: StudyRecord) -> dict[str, float]:
    """Return the seconds of every stage, summed over its completed runs."""
    stages = study.plan.study.stages
    return {stage.name: sum(run.result.seconds for run in study.of_stage(stage.name) if run.result) for stage in stages}


def _arm_cost(study: StudyRecord, levels: Mapping[str, str], runs: Sequence[RunRecord]) -> ArmCost:
    """Return the mean cost of the runs of an arm."""
    results = [run.result for run in runs if run.result]
    earlier_runs = [run.planned.needs for run in runs if run.planned.needs]
    sharers = [
        sum(other.needs == name and other.stage != BASELINES for other in study.plan.runs) for name in earlier_runs
    ]
    return ArmCost(
        levels=levels,
        runs=len(results),
        seconds=float(np.mean([result.seconds for result in results])),
        images=float(np.mean([result.images for result in results])),
        images_per_second=sum(r.images for r in results) / max(sum(r.seconds for r in results), 1e-9),
        earlier_seconds=float(np.mean([_earlier_seconds(study, name) for name in earlier_runs]))
        if earlier_runs
        else 0.0,
        shared_by=float(np.mean(sharers)) if sharers else 0.0,
        macs=_mean_macs([run.planned.macs for run in runs]),
        earlier_macs=_mean_macs([_earlier_macs(study, name) for name in earlier_runs]) if earlier_runs else 0.0,
    )


def _mean_macs(values: Sequence[float | None]) -> float | None:
    """Return the mean of planned MACs, or None where one is unknown."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _earlier_macs(study: StudyRecord, name: str) -> float | None:
    """Return the MACs of a run and of all runs it starts from; None where one is unknown."""
    planned = study.runs[name].planned
    before = _earlier_macs(study, planned.needs) if planned.needs else 0.0
    return None if planned.macs is None or before is None else planned.macs + before


def _earlier_seconds(study: StudyRecord, name: str) -> float:
    """Return the seconds of a run and of all runs it starts from."""
    run = study.runs[name]
    own = run.result.seconds if run.result else 0.0
    return own + (_earlier_seconds(study, run.planned.needs) if run.planned.needs else 0.0)
