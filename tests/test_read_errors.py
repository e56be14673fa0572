"""Files of a run that cannot be read: the run ends with one message, nothing whole is removed, and it resumes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import RECIPES, assert_same_run
from forked_runs import Fault, log, run

from common.command import USER_ERROR

Stage = Callable[..., int]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("processes", "rank"), [(1, 0), (2, 1)])
def test_a_checkpoint_that_cannot_be_read_ends_the_run_and_is_read_later(
    tmp_path: Path, processes: int, rank: int
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    overrides = ("train.checkpoint_steps=2", "train.keep_checkpoints=1", "train.milestone_epochs=1")
    assert run("finetune", parts, *overrides, processes=processes, faults=[Fault("step", 7)]) == -9
    before = contents(parts)
    fault = Fault("read", 1, what="stale handle", rank=rank)
    assert run("finetune", parts, *overrides, processes=processes, faults=[fault]) == USER_ERROR, log(parts)
    assert "step-000000006 cannot be read (Stale file handle)" in log(parts, rank)
    assert all("Traceback" not in log(parts, each) for each in range(processes))
    assert contents(parts) == before
    assert run("finetune", parts, *overrides, processes=processes) == 0, log(parts)
    assert run("finetune", whole, *overrides, processes=processes) == 0, log(whole)
    assert_same_run(whole, parts)


@pytest.mark.parametrize("mask", [0o002, 0o022])
def test_every_file_of_a_run_has_the_rights_of_the_umask(stage: Stage, tmp_path: Path, mask: int) -> None:
    out, before = tmp_path / "run", os.umask(mask)
    try:
        assert stage("finetune", out, "train.milestone_epochs=1") == 0
    finally:
        os.umask(before)
    found = {str(path.relative_to(out)): path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()}
    assert len(found) >= 12 and "export/model.safetensors" in found
    assert [name for name, rights in found.items() if rights != 0o666 & ~mask] == []


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler")
def test_nothing_whole_is_lost_when_reads_fail_at_random() -> None:
    words = ["--kills=2", "--read-errors=8", "--stages=finetune"]
    command = [sys.executable, "-m", "benchmarks.kills", *words]
    done = subprocess.run(command, cwd=RECIPES.parent, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 kills, 8 attempts ended by a read error" in done.stdout
