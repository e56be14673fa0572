"""Unreadable files of a run: the run ends with one message, no valid file is removed, and the run resumes later."""

import errno
import io
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPES, assert_same_run
from forked_runs import Fault, fork_run, read_log

from common.command import USER_ERROR
from common.evaluation.__main__ import main as evaluate
from common.training import checkpoints

pytestmark = pytest.mark.long

Stage = Callable[..., int]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("processes", "rank"), [(1, 0), (2, 1)])
def test_unreadable_checkpoint_ends_the_run_and_is_used_once_readable(
    tmp_path: Path, processes: int, rank: int
) -> None:
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    overrides = ("train.checkpoint_steps=2", "train.keep_checkpoints=1", "train.keep_every_epochs=1")
    assert fork_run("finetune", resumed, *overrides, processes=processes, faults=[Fault("step", 7)]) == -9
    before = contents(resumed)
    fault = Fault("read", 1, what="stale handle", rank=rank)
    assert fork_run("finetune", resumed, *overrides, processes=processes, faults=[fault]) == USER_ERROR, read_log(
        resumed
    )
    logs = [read_log(resumed, each) for each in range(processes)]
    assert "step-000000006 cannot be read (Stale file handle)" in logs[0]
    assert all("cannot be read" not in text for text in logs[1:]), "printed once"
    assert rank == 0 or f"rank {rank} on {socket.gethostname()}: " in logs[0]
    assert all("Traceback" not in read_log(resumed, each) for each in range(processes))
    assert contents(resumed) == before
    assert fork_run("finetune", resumed, *overrides, processes=processes) == 0, read_log(resumed)
    assert fork_run("finetune", uninterrupted, *overrides, processes=processes) == 0, read_log(uninterrupted)
    assert_same_run(uninterrupted, resumed)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("exists", 2, what="stale handle", rank=1), "cannot be read (Stale file handle)"),
        (Fault("result", 1, what="stale handle", rank=1), "Stale file handle"),
        (
            Fault("read", 1, what="damage", rank=1),
            "processes see different run folders (step 4 on rank 0, step 2 on rank 1)",
        ),
    ],
    ids=["folder", "result", "another checkpoint"],
)
def test_read_error_on_one_process_ends_all(tmp_path: Path, fault: Fault, message: str) -> None:
    """No process waits for the other, and none resumes from another step."""
    out, overrides = tmp_path / "run", ("train.checkpoint_steps=2",)
    assert fork_run("finetune", out, *overrides, processes=2, faults=[Fault("step", 5)]) == -9
    before = contents(out)
    assert fork_run("finetune", out, *overrides, processes=2, faults=[fault]) == USER_ERROR, read_log(out)
    logs = read_log(out, 0), read_log(out, 1)
    assert any(message in text for text in logs) and all("Traceback" not in text for text in logs)
    assert contents(out) == before


@pytest.mark.parametrize("name", ["finetune", "knn"])
def test_processes_on_different_disks_are_refused(tmp_path: Path, name: str) -> None:
    """Otherwise one of them would have ended, or begun anew, while the other resumes."""
    out, fault = tmp_path / "run", Fault("folder", 1, what="another disk", rank=1)
    assert fork_run(name, out) == 0, read_log(out)
    before, seen = (
        contents(out),
        "step 8 on rank 0, none on rank 1" if name == "finetune" else "status finished on rank 0",
    )
    assert fork_run(name, out, processes=2, faults=[fault]) == USER_ERROR
    assert f"error: processes see different run folders ({seen}" in read_log(out)
    assert "out must lie on a disk that all nodes share" in read_log(out) and "error" not in read_log(out, 1)
    assert contents(out) == before


READS = {
    "finetune": ("result.json", "metrics.jsonl", "config.yaml"),
    "knn": ("result.json", "metrics.jsonl", "config.yaml"),
    "probe": ("result.json", "metrics.jsonl"),
    "tokens": ("result.json", "metrics.jsonl"),
    "linear": ("metrics.jsonl", "data.json"),
}


@pytest.mark.parametrize(("name", "file"), [(name, file) for name, files in READS.items() for file in files])
def test_refused_run_changes_nothing(
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
    before, original = contents(out), io.open

    def failing_open(path: Any, *words: Any, **named: Any) -> Any:
        if Path(str(path)).name == file and "w" not in "".join(map(str, words)):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return original(path, *words, **named)

    with monkeypatch.context() as patch:
        patch.setattr(io, "open", failing_open)
        assert stage(name, out, "data.workers=1") == USER_ERROR
    assert "Stale file handle" in capsys.readouterr().err
    assert contents(out) == before
    assert stage(name, out) == 0


def test_fingerprint_is_not_recreated_if_the_checkpoint_is_unreadable(
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
        patch.setattr(checkpoints, "read_checkpoint", fail)
        assert stage("finetune", out) == USER_ERROR
    assert contents(out) == before
    assert stage("finetune", out) == 0 and (out / "data.json").exists()


def test_refused_token_labels_leave_the_folder_unchanged(tmp_path: Path, stage: Stage) -> None:
    """An interrupted token-label run, then another recipe in its folder: refused, and the existing recipe is unchanged."""
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
def test_run_files_have_the_permissions_of_the_umask(stage: Stage, tmp_path: Path, mask: int) -> None:
    out, before = tmp_path / "run", os.umask(mask)
    try:
        assert stage("finetune", out, "train.keep_every_epochs=1") == 0
    finally:
        os.umask(before)
    found = {str(path.relative_to(out)): path.stat().st_mode & 0o777 for path in out.rglob("*") if path.is_file()}
    assert len(found) >= 12 and "export/model.safetensors" in found
    assert [name for name, permissions in found.items() if permissions != 0o666 & ~mask] == []


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="requires a C compiler")
def test_no_valid_checkpoint_is_lost_when_reads_fail_at_random() -> None:
    words = ["--kills=1", "--read-errors=5", "--stages=finetune"]
    command = [sys.executable, "-m", "benchmarks.kills", *words]
    done = subprocess.run(command, cwd=RECIPES.parent, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    summary = re.search(
        r"(\d+) kills, (\d+) attempts ended with a read error, (\d+) runs finished, all bitwise equal", done.stdout
    )
    assert summary and int(summary[1]) >= 1 and int(summary[2]) >= 5 and int(summary[3]) >= 1
