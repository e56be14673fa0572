"""Owns what a study cost: seconds and images by arm, with each arm's share of the pre-training it starts from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.reports.results import RunRecord, StudyRecord


@dataclass(frozen=True)
class ArmCost:
    """What one arm's runs cost, on average: seconds and images of a run; the stage before it, whole and shared out.

    `shared_by` is how many runs of the study start from one run of the stage before (0: none does).
    """

    levels: Mapping[str, str]
    runs: int
    seconds: float
    images: float
    images_per_second: float
    parameters: int
    before_seconds: float
    shared_by: float

    @property
    def share_seconds(self) -> float:
        """Return the part of the stage before that falls to one run."""
        return self.before_seconds / self.shared_by if self.shared_by else 0.0

    @property
    def total_seconds(self) -> float:
        """Return a run's seconds with its share of the stage before."""
        return self.seconds + self.share_seconds

    @property
    def alone_seconds(self) -> float:
        """Return what one run would take if nothing shared the stage before."""
        return self.seconds + self.before_seconds


def arm_costs(study: StudyRecord, axes: Sequence[str]) -> list[ArmCost]:
    """Return the cost of every combination of levels of `axes`, over the runs that are done."""
    arms: dict[tuple[str, ...], dict[str, RunRecord]] = {}
    for cell in study.plan.cells:
        run = study.final_run(cell)
        if run.result:
            arms.setdefault(tuple(cell.levels[axis] for axis in axes), {})[run.planned.id] = run
    return [
        _arm_cost(study, dict(zip(axes, levels, strict=True)), list(runs.values())) for levels, runs in arms.items()
    ]


def stage_seconds(study: StudyRecord) -> dict[str, float]:
    """Return the seconds of every stage over all its finished runs."""
    stages = study.plan.study.stages
    return {s.name: sum(run.result.seconds for run in study.of_stage(s.name) if run.result) for s in stages}


def _arm_cost(study: StudyRecord, levels: Mapping[str, str], runs: Sequence[RunRecord]) -> ArmCost:
    """Return the mean cost of an arm's runs."""
    results = [run.result for run in runs if run.result]
    needed = [run.planned.needs for run in runs if run.planned.needs]
    users = [sum(other.needs == name for other in study.plan.runs) for name in needed]
    return ArmCost(
        levels=levels,
        runs=len(results),
        seconds=float(np.mean([result.seconds for result in results])),
        images=float(np.mean([result.images for result in results])),
        images_per_second=sum(r.images for r in results) / max(sum(r.seconds for r in results), 1e-9),
        parameters=results[0].parameters,
        before_seconds=float(np.mean([_seconds_before(study, name) for name in needed])) if needed else 0.0,
        shared_by=float(np.mean(users)) if users else 0.0,
    )


def _seconds_before(study: StudyRecord, name: str) -> float:
    """Return the seconds of a run and of all it starts from."""
    run = study.runs[name]
    own = run.result.seconds if run.result else 0.0
    return own + (_seconds_before(study, run.planned.needs) if run.planned.needs else 0.0)
