"""Jobs that Slurm holds, cannot start, or does not complete: a study prints it, and does not wait for what is done."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from recipes.run.engine import Job
from recipes.run.slurm.engine import SlurmEngine
from recipes.run.slurm.following import FollowedJob
from recipes.run.slurm.held import describe_held
from recipes.run.slurm.listing import ListedRun
from recipes.run.slurm.programs import QueuedTask

BuildEngine = Callable[..., SlurmEngine]


def task(index: int, reason: str, state: str = "PENDING") -> QueuedTask:
    """Return a task of array 7."""
    return QueuedTask("7", index, state, reason, "", "", "study-00000000")


@pytest.mark.parametrize("reason", ["JobHeldUser", "launch failed requeued held", "JobHoldMaxRequeue"])
def test_jobs_that_are_held_are_named_with_what_releases_them(reason: str) -> None:
    assert list(describe_held([task(2, reason), task(3, "Priority")])) == [
        (reason, f"Slurm holds 7_2 ({reason}): `scontrol release 7_2` lets them start")
    ]


def test_all_held_jobs_are_released_and_those_of_administrators_are_theirs() -> None:
    (_, line), (_, of_admin) = describe_held([task(2, "JobHeldUser"), task(5, "JobHeldUser"), task(3, "JobHeldAdmin")])
    assert line == "Slurm holds 2 jobs (JobHeldUser), such as 7_2: `scontrol release 7_2,7_5` lets them start"
    assert "administrators" in of_admin and "scontrol" not in of_admin


@pytest.mark.parametrize(
    "reason", ["BadConstraints", "PartitionTimeLimit", "QOSMaxWallDurationPerJobLimit", "InvalidQOS"]
)
def test_jobs_that_ask_for_what_is_not_to_be_had_are_named(reason: str) -> None:
    ((_, line),) = describe_held([task(0, reason), task(1, reason)])
    assert line.startswith(
        f"Slurm does not start 2 jobs ({reason}), such as 7_0: stop the study, change what its section"
    )


@pytest.mark.parametrize(
    "reason",
    [
        "None",
        "Priority",
        "Resources",
        "Dependency",
        "QOSMaxJobsPerUserLimit",
        "AssocGrpGRES",
        "QOSUsageThreshold",
        "PartitionNodeLimit",
    ],
)
def test_reasons_that_pass_are_not_mentioned(reason: str) -> None:
    assert not list(describe_held([task(0, reason)]))
    assert not list(describe_held([task(0, "JobHeldUser", "RUNNING")]))


def test_a_study_says_once_what_it_waits_for(
    cluster: BuildEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, lines = cluster(), list[str]()
    engine.print_line = lines.append
    folder = tmp_path / "study" / "runs" / "run"
    engine._followed[folder] = FollowedJob(Job("finetune", (), folder))
    listed = ListedRun(task(0, "JobHeldUser"), tmp_path)
    monkeypatch.setattr(engine, "read", lambda folders: {folder.resolve(): listed})
    for _ in range(2):
        engine._read_at = None
        assert engine.finished() == []
    assert lines == ["Slurm holds 7_0 (JobHeldUser): `scontrol release 7_0` lets them start"]


def test_a_run_that_is_done_is_not_waited_for_while_slurm_completes_its_job(tmp_path: Path) -> None:
    followed = FollowedJob(Job("finetune", (), tmp_path))
    listed = ListedRun(task(0, "None", "COMPLETING"), tmp_path / "submission")
    assert followed.look(listed, 0.0) is None  # it may be requeued
    numbers = ("step", "seconds", "images", "images_per_second", "parameters", "train_images", "num_processes")
    result = {"status": "finished", "reason": None, "metrics": {}, **dict.fromkeys(numbers, 1)}
    (tmp_path / "result.json").write_text(json.dumps(result))
    end = followed.look(listed, 0.0)
    assert end is not None and end.how == "done"
