"""What a job does at the end of a start, without Slurm."""

import json
from pathlib import Path

import pytest

from recipes.run.slurm.job import RunJob
from recipes.run.slurm.tasks import TASKS, TaskRecord, read_record, write_record


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
