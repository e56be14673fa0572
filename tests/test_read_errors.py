"""Files of a run that cannot be read: the run ends with one message, nothing whole is removed, and it resumes."""

import errno
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPES, assert_same_run
from forked_runs import Fault, log, run

from common.command import USER_ERROR
from common.evaluation.__main__ import main as evaluate
from common.training import checkpoints

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


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (Fault("look", 2, what="stale handle", rank=1), "cannot be read (Stale file handle)"),
        (Fault("result", 1, what="stale handle", rank=1), "Stale file handle"),
        (Fault("read", 1, what="damage", rank=1), "find different things"),
    ],
    ids=["folder", "result", "another checkpoint"],
)
def test_what_one_process_cannot_read_ends_all(tmp_path: Path, fault: Fault, told: str) -> None:
    """Neither waits for the other, and none goes on from another step."""
    out, overrides = tmp_path / "run", ("train.checkpoint_steps=2",)
    assert run("finetune", out, *overrides, processes=2, faults=[Fault("step", 5)]) == -9
    before = contents(out)
    assert run("finetune", out, *overrides, processes=2, faults=[fault]) == USER_ERROR, log(out)
    logs = log(out, 0), log(out, 1)
    assert any(told in said for said in logs) and all("Traceback" not in said for said in logs)
    assert contents(out) == before


READS = {
    "finetune": ("result.json", "metrics.jsonl", "config.yaml"),
    "knn": ("result.json", "metrics.jsonl", "config.yaml"),
    "tokens": ("result.json", "metrics.jsonl"),
    "linear": ("metrics.jsonl", "data.json"),
}


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in READS.items() for file in files])
def test_a_run_that_refuses_has_changed_nothing(
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    file: str,
) -> None:
    out = tmp_path / "run"
    assert stage(name, out) == 0
    if file != "result.json":
        (out / "result.json").unlink()
    before, usual = contents(out), io.open

    def broken(path: Any, *words: Any, **named: Any) -> Any:
        if Path(str(path)).name == file and "w" not in "".join(map(str, words)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return usual(path, *words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(io, "open", broken)
        assert stage(name, out, "data.workers=1") == USER_ERROR
    assert "Stale file handle" in capsys.readouterr().err
    assert contents(out) == before
    assert stage(name, out) == 0


def test_a_fingerprint_is_not_made_up_where_the_checkpoint_cannot_be_read(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert stage("finetune", out) == 0
    for name in ("result.json", "data.json", "subset.json"):
        (out / name).unlink()
    before = contents(out)

    def fail(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_read", fail)
        assert stage("finetune", out) == USER_ERROR
    assert contents(out) == before
    assert stage("finetune", out) == 0 and (out / "data.json").exists()


def test_labels_that_are_refused_leave_their_folder(tmp_path: Path, stage: Stage) -> None:
    """An interrupted labelling, then the same folder with another recipe: refused, and the recipe that lies there stays."""
    teacher, out = tmp_path / "teacher", tmp_path / "labels"
    assert stage("finetune", teacher, "train.epochs=1") == 0
    words = ["token_labels", str(RECIPES / "digits" / "token_labels.yaml"), f"init={teacher}", f"out={out}"]
    assert evaluate(words) == 0
    for name in ("result.json", "labels.json", "metrics.jsonl"):
        (out / name).unlink(missing_ok=True)
    before = contents(out)
    assert evaluate([*words, "classes=3"]) == USER_ERROR
    assert contents(out) == before
    assert evaluate(words) == 0 and (out / "labels.json").exists()


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
    words = ["--kills=1", "--read-errors=5", "--stages=finetune"]
    command = [sys.executable, "-m", "benchmarks.kills", *words]
    done = subprocess.run(command, cwd=RECIPES.parent, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    told = re.search(
        r"(\d+) kills, (\d+) attempts ended by a read error, (\d+) runs to the end, all bit-equal", done.stdout
    )
    assert told and int(told[1]) >= 1 and int(told[2]) >= 5 and int(told[3]) >= 1
