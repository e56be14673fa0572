"""200 fake runs on this machine's engine and on Slurm's, the study's process killed five times: none is lost, none runs twice."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm
from two_hundred_runs import RUNS, assert_all_run_once

from recipes.run.engine import Engine
from recipes.run.engines import LocalSlots
from recipes.run.slurm.engine import SlurmEngine

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the file in which the fake runs note that they have started."""
    monkeypatch.setenv("FAKE_STARTS", str(tmp_path / "starts.txt"))


def test_no_run_is_lost_or_repeated_on_this_machine(tmp_path: Path) -> None:
    def build(_: str, words: Sequence[str]) -> Engine:
        return LocalSlots(4, lambda job: [*words, *job.arguments])

    assert_all_run_once(tmp_path, build, "", seed=0)


def test_no_run_is_lost_or_repeated_on_a_cluster(
    tmp_path: Path, fake_slurm: FakeSlurm, cluster: Callable[..., SlurmEngine]
) -> None:
    def build(_: str, words: Sequence[str]) -> Engine:
        return cluster(50, lambda job, _: [*words, *job.arguments])

    assert_all_run_once(tmp_path, build, "", seed=1)
    tasks = fake_slurm.tasks()
    assert {task["state"] for task in tasks.values()} == {"COMPLETED"}
    assert len(tasks) == RUNS
