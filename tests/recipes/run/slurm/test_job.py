"""What a job does at the end of a start, without Slurm."""

import json
import socket
from pathlib import Path

import pytest

from recipes.run.slurm.job import MAIN_HOST, MAIN_PROCESS, RunJob
from recipes.run.slurm.tasks import TASKS, TaskRecord, read_record, write_record


@pytest.mark.parametrize("given", [None, "node1-ib0"])
def test_nodes_find_the_first_one_by_its_own_name_or_the_given_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None
) -> None:
    task = {"folder": str(tmp_path), "command": [], "needs": None, "nodes": 2, "cpus_per_process": 1, "on_cpu": False}
    (tmp_path / TASKS).write_text(json.dumps([task]))
    monkeypatch.delenv(MAIN_HOST, raising=False)
    if given:
        monkeypatch.setenv(MAIN_HOST, given)
    host, _, port = RunJob(tmp_path, 0)._environment()[MAIN_PROCESS].rpartition(":")
    assert host == (given or socket.gethostname()) and int(port) > 0


def test_a_run_without_a_checkpoint_fails_after_four_starts_and_its_reason_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = {
        "folder": str(tmp_path / "run"),
        "command": [],
        "needs": None,
        "nodes": 1,
        "cpus_per_process": 1,
        "on_cpu": False,
    }
    (tmp_path / TASKS).write_text(json.dumps([task]))
    write_record(tmp_path, 0, TaskRecord("interrupted", "", "node", "7", progress=("", "", "")))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert RunJob(tmp_path, 0)._requeue() == 1
    record = read_record(tmp_path, 0)
    assert record is not None and (record.state, record.reason[:37]) == (
        "failed",
        "no checkpoint was written in 4 starts",
    )
