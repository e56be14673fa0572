"""Full disk: one message on every process, the previous checkpoint intact, no partial files, the run resumable."""

from pathlib import Path

import pytest
from conftest import assert_same_run, read_result
from forked_runs import Fault, fork_run, read_log

from common.command import USER_ERROR


@pytest.mark.parametrize("processes", [1, 2])
def test_full_disk_is_a_single_error_and_the_run_resumes_with_free_space(tmp_path: Path, processes: int) -> None:
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    fault = Fault("step", 3, what="full disk")
    assert (
        fork_run("finetune", resumed, "train.checkpoint_steps=2", processes=processes, faults=[fault]) == USER_ERROR
    ), read_log(resumed)
    assert "step-000000004: cannot be written" in read_log(resumed) and "`ulimit -f`" in read_log(resumed)
    assert all("Traceback" not in read_log(resumed, rank) for rank in range(processes))
    assert [path.name for path in (resumed / "checkpoints").iterdir()] == ["step-000000002"]
    assert fork_run("finetune", resumed, "train.checkpoint_steps=2", processes=processes) == 0, read_log(resumed)
    assert fork_run("finetune", uninterrupted, "train.checkpoint_steps=2", processes=processes) == 0
    assert_same_run(uninterrupted, resumed)


def test_full_disk_while_logging_metrics_is_the_same_error(tmp_path: Path) -> None:
    out = tmp_path / "run"
    faults = [Fault("line", 4, what="no space")]
    assert fork_run("finetune", out, "train.checkpoint_steps=2", processes=2, faults=faults) == USER_ERROR, read_log(
        out
    )
    assert "metrics.jsonl: cannot be written" in read_log(out)
    assert all("Traceback" not in read_log(out, rank) for rank in range(2))
    assert fork_run("finetune", out, "train.checkpoint_steps=2") == 0, read_log(out)
    assert read_result(out)["status"] == "finished" and len((out / "metrics.jsonl").read_text().splitlines()) == 10
