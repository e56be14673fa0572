"""A disk that is full: one message on every process, the former checkpoint whole, nothing half written left, the run resumable."""

from pathlib import Path

import pytest
from conftest import assert_same_run, read_result
from forked_runs import Fault, log, run

from common.command import USER_ERROR


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_is_one_error_and_the_run_goes_on_when_there_is_room(tmp_path: Path, processes: int) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fault = Fault("step", 3, what="full disk")
    assert run("finetune", parts, "train.checkpoint_steps=2", processes=processes, faults=[fault]) == USER_ERROR, log(
        parts
    )
    assert "step-000000004: cannot be written" in log(parts) and "make room" in log(parts)
    assert all("Traceback" not in log(parts, rank) for rank in range(processes))
    assert [path.name for path in (parts / "checkpoints").iterdir()] == ["step-000000002"]
    assert run("finetune", parts, "train.checkpoint_steps=2", processes=processes) == 0, log(parts)
    assert run("finetune", whole, "train.checkpoint_steps=2", processes=processes) == 0
    assert_same_run(whole, parts)


def test_a_full_disk_at_a_line_of_metrics_is_the_same_error(tmp_path: Path) -> None:
    out = tmp_path / "run"
    faults = [Fault("line", 4, what="no space")]
    assert run("finetune", out, "train.checkpoint_steps=2", processes=2, faults=faults) == USER_ERROR, log(out)
    assert "metrics.jsonl: cannot be written" in log(out)
    assert all("Traceback" not in log(out, rank) for rank in range(2))
    assert run("finetune", out, "train.checkpoint_steps=2") == 0, log(out)
    assert read_result(out)["verdict"] == "finished" and len((out / "metrics.jsonl").read_text().splitlines()) == 10
