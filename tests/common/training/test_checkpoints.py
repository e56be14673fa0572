"""Tests of checkpoints: atomic writes, damage, unreadable files, which checkpoints are kept."""

import errno
import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common import checkpoint_files
from common.checkpoint_files import Checkpoint
from common.errors import UserError
from common.training import checkpoints
from common.training.checkpoints import Checkpoints

SYSTEM_ERRORS = ("EACCES", "ESTALE", "ENODEV", "EIO", "EMFILE", "ENOLCK")
"""Errors of the system, which do not mean that the checkpoint is damaged."""


def save(folder: Path, step: int, *, keep: int = 2, milestone: bool = False) -> None:
    tensors = {"weight": torch.full((3,), float(step))}
    Checkpoints(folder, keep=keep).write(step, tensors, {"note": step}, milestone=milestone)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    return Checkpoints(folder, keep=2).read_newest()


def steps(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in sorted(folder.glob("step-*"))]


def raising(name: str) -> Callable[..., None]:
    """Return a function that raises a system error."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))

    return fail


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_newest_checkpoint_is_read_and_two_are_kept(tmp_path: Path) -> None:
    for step in (3, 9, 12):
        save(tmp_path, step)
    checkpoint = newest_checkpoint(tmp_path)
    assert checkpoint is not None and checkpoint.step == 12 and checkpoint.values == {"note": 12}
    assert torch.equal(checkpoint.tensors["weight"], torch.full((3,), 12.0))
    assert steps(tmp_path) == [9, 12]


def test_two_damaged_checkpoints_are_removed_by_the_next_intact_one(tmp_path: Path) -> None:
    for step in (7, 8):
        save(tmp_path, step)
        (tmp_path / f"step-{step:09d}" / checkpoint_files.TENSORS).write_bytes(b"damaged")
    assert newest_checkpoint(tmp_path) is None
    save(tmp_path, 6)
    assert steps(tmp_path) == [6]
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 6


def test_a_failed_write_keeps_the_previous_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)

    def disk_full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(checkpoint_files, "fsync", disk_full)
        save(tmp_path, 2)
    assert not list(tmp_path.glob(".writing-*"))
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    save(tmp_path, 3)
    assert steps(tmp_path) == [1, 3] and not list(tmp_path.glob(".writing-*"))


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path / "nowhere") is None


@pytest.mark.parametrize("name", [checkpoint_files.TENSORS, checkpoint_files.VALUES, checkpoint_files.SUMS])
@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone"])
def test_any_damage_to_any_file_is_detected(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    path = tmp_path / "step-000000002" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"flipped": bytes(content), "cut": bytes(content[:-3]), "empty": b""}
    path.unlink() if damage == "gone" else path.write_bytes(damaged[damage])
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    assert "step-000000002 is damaged" in caplog.text


def test_checksums_have_the_format_of_sha256sum(tmp_path: Path) -> None:
    save(tmp_path, 1)
    folder = tmp_path / "step-000000001"
    for line in (folder / checkpoint_files.SUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_milestones_are_kept_in_addition_to_the_latest(tmp_path: Path) -> None:
    for step in range(1, 8):
        save(tmp_path, step, keep=2, milestone=step in (2, 4))
    assert steps(tmp_path) == [2, 4, 6, 7]


def test_a_damaged_checkpoint_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    (tmp_path / "step-000000002" / checkpoint_files.VALUES).write_text("")
    save(tmp_path, 2)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 2 and steps(tmp_path) == [1, 2]
    assert not list(tmp_path.glob(".*"))


def test_an_intact_checkpoint_is_not_rewritten(tmp_path: Path) -> None:
    """A state on disk must not be put at risk again; to make it a milestone, only the milestone file is added."""
    save(tmp_path, 2)
    run = Checkpoints(tmp_path, keep=1)
    assert run.read_newest() is not None
    before = (tmp_path / "step-000000002" / checkpoint_files.TENSORS).stat().st_mtime_ns
    run.write(2, {}, {}, milestone=True)
    run.write(3, {"weight": torch.ones(1)}, {})
    assert steps(tmp_path) == [2, 3]
    assert (tmp_path / "step-000000002" / checkpoint_files.TENSORS).stat().st_mtime_ns == before


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    for name in (".writing-000000004", ".damaged-000000003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / checkpoint_files.TENSORS).write_bytes(b"half")
    save(tmp_path, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000005"]


@pytest.mark.parametrize("name", SYSTEM_ERRORS)
@pytest.mark.parametrize(
    ("module", "call", "what"),
    [
        (checkpoint_files, "_sums", "checkpoint step-000000003"),
        (checkpoint_files, "read_tensors", "checkpoint step-000000003"),
        (os, "scandir", "the folder of the checkpoints"),
    ],
)
def test_unreadable_checkpoints_end_in_one_message_and_nothing_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: object, call: str, what: str, name: str
) -> None:
    folder = tmp_path / "run" / "checkpoints"
    for step in (1, 2, 3):
        save(folder, step, milestone=step == 1)
    before = files(folder)
    with monkeypatch.context() as patch, pytest.raises(UserError) as raised:
        patch.setattr(module, call, raising(name))
        newest_checkpoint(folder)
    error = str(raised.value)
    assert f"out = {folder.parent}: {what} cannot be read ({os.strerror(getattr(errno, name))})" in error
    assert "nothing was removed" in error
    assert files(folder) == before
    found = newest_checkpoint(folder)
    assert found is not None and found.step == 3


def test_misleading_errors_of_the_reading_library_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors reports any file that it cannot open as missing, torch raises RuntimeError for one that cannot be mapped."""
    for step in (1, 2):
        save(tmp_path, step)
    for error in (FileNotFoundError("No such file or directory"), RuntimeError("unable to mmap")):
        with monkeypatch.context() as patch:
            patch.setattr("common.tensor_files.load_file", lambda *_, error=error: (_ for _ in ()).throw(error))
            found = newest_checkpoint(tmp_path)
            assert found is not None and found.step == 2 and found.tensors["weight"].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/step-000000003"])
def test_dangling_links_do_not_count_as_missing_checkpoints(tmp_path: Path, name: str) -> None:
    """The checkpoints on a disk that is temporarily unavailable are still intact."""
    folder, away = tmp_path / "checkpoints", tmp_path / "away"
    for step in (1, 2, 3):
        save(folder, step)
    (tmp_path / name).rename(away)
    (tmp_path / name).symlink_to(away)
    found = newest_checkpoint(folder)
    assert found is not None and found.step == 3
    away.rename(tmp_path / "gone")
    with pytest.raises(UserError, match="cannot be read .*dangling symbolic link"):
        newest_checkpoint(folder)


@pytest.mark.parametrize("name", [checkpoint_files.TENSORS, checkpoint_files.VALUES, checkpoint_files.SUMS])
def test_a_file_on_an_unavailable_disk_is_not_missing(tmp_path: Path, name: str) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    path, away = tmp_path / "step-000000002" / name, tmp_path / "away"
    path.rename(away)
    path.symlink_to(away)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 2
    away.rename(tmp_path / "gone")
    with pytest.raises(UserError, match=f"cannot be read .{name} is a dangling symbolic link"):
        newest_checkpoint(tmp_path)


def test_a_dangling_milestone_link_still_marks_a_milestone(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "step-000000001" / checkpoint_files.MILESTONE).symlink_to(tmp_path / "away")
    for step in (2, 3, 4):
        save(tmp_path, step)
    assert steps(tmp_path) == [1, 3, 4]


def test_a_checkpoint_that_was_moved_and_linked_is_kept(tmp_path: Path) -> None:
    folder, away = tmp_path / "checkpoints", tmp_path / "away"
    save(folder, 1)
    (folder / "step-000000001").rename(away)
    (folder / "step-000000001").symlink_to(away)
    before = files(away)
    for step in (2, 3, 4):
        save(folder, step)
    assert steps(folder) == [1, 3, 4] and files(away) == before and not list(folder.glob(".*"))


def test_links_of_other_names_are_ignored(tmp_path: Path) -> None:
    """For example a link to the latest checkpoint, whose target is removed when later ones are written."""
    save(tmp_path, 1)
    (tmp_path / "latest").symlink_to("step-000000001")
    for step in (2, 3, 4):
        save(tmp_path, step)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 4 and (tmp_path / "latest").is_symlink()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_leftover_file_or_link_is_removed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "other").mkdir()
    leftover = tmp_path / ".writing-000000001"
    leftover.write_text("") if kind == "file" else leftover.symlink_to(tmp_path / "other")
    save(tmp_path, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "step-000000001"]


def test_a_leftover_that_cannot_be_removed_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".writing-000000001").mkdir()
    monkeypatch.setattr(checkpoints.shutil, "rmtree", raising("EACCES"))
    with pytest.raises(FileExistsError, match="leftover .* cannot be removed"):
        save(tmp_path, 1)
    assert ".writing-000000001 cannot be removed (Permission denied)" in caplog.text


def rewrite(path: Path, **changes: object) -> None:
    """Change the description in a checkpoint, and its checksums to match."""
    described = json.loads((path / checkpoint_files.VALUES).read_text()) | changes
    (path / checkpoint_files.VALUES).write_text(
        json.dumps({name: value for name, value in described.items() if value != "gone"})
    )
    subprocess.run(
        f"sha256sum {checkpoint_files.TENSORS} {checkpoint_files.VALUES} > SHA256SUMS", cwd=path, shell=True, check=True
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"step": "2"}, {"step": 2.0}, {"step": -1}, {"step": 1}, {"step": 10**9}, {"step": True}, {"step": "gone"},
        {"values": None}, {"values": []}, {"values": "gone"}, {"format": "1"}, {"format": None},
    ],
)  # fmt: skip
def test_a_description_that_no_version_writes_is_damaged(
    tmp_path: Path, changes: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    rewrite(tmp_path / "step-000000002", **changes)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 1 and "step-000000002 is damaged" in caplog.text


def test_a_checkpoint_of_the_first_version_is_read(tmp_path: Path) -> None:
    save(tmp_path, 1)
    rewrite(tmp_path / "step-000000001", format="gone")
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 1


def test_a_checkpoint_of_a_later_version_is_unchanged(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for step in (1, 2):
        save(folder, step)
    rewrite(folder / "step-000000002", format=checkpoint_files.FORMAT + 1)
    before = files(folder)
    with pytest.raises(UserError, match=r"step-000000002 was written by a later version .*Nothing was changed"):
        newest_checkpoint(folder)
    with pytest.raises(FileExistsError, match="later version"):
        save(folder, 2)
    assert files(folder) == before


@pytest.mark.parametrize("change", ["order", "more", "crlf"])
def test_checksums_that_sha256sum_accepts_are_valid(tmp_path: Path, change: str) -> None:
    save(tmp_path, 1)
    folder = tmp_path / "step-000000001"
    (folder / "notes").write_text("a note")
    lines = (folder / checkpoint_files.SUMS).read_text().splitlines()
    if change == "order":
        lines.reverse()
    if change == "more":
        lines.append(f"{hashlib.sha256(b'a note').hexdigest()}  notes")
    (folder / checkpoint_files.SUMS).write_bytes((("\r\n" if change == "crlf" else "\n").join(lines) + "\n").encode())
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 1


@pytest.mark.parametrize("state", ["intact", "unreadable"])
def test_pruning_keeps_later_checkpoints_unless_they_are_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    for step in (1, 9):
        save(tmp_path, step)
    original = checkpoints.read_checkpoint

    def read(path: Path) -> Checkpoint:
        if state == "unreadable" and path.name == "step-000000009":
            raising("ESTALE")()
        return original(path)

    monkeypatch.setattr(checkpoints, "read_checkpoint", read)
    save(tmp_path, 2)
    assert steps(tmp_path) == [1, 2, 9]


def test_pruning_keeps_damaged_milestones(tmp_path: Path) -> None:
    for step in (1, 5):
        save(tmp_path, step, milestone=True)
        (tmp_path / f"step-{step:09d}" / checkpoint_files.TENSORS).write_bytes(b"damaged")
    run = Checkpoints(tmp_path, keep=1)
    assert run.read_newest() is None
    for step in (2, 3):
        run.write(step, {"weight": torch.ones(1)}, {})
    assert steps(tmp_path) == [1, 3, 5]


def test_a_milestone_that_cannot_be_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1, milestone=True)
    monkeypatch.setattr(checkpoints, "is_milestone", raising("EIO"))
    for step in (2, 3, 4):
        save(tmp_path, step, keep=1)
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_a_damaged_checkpoint_does_not_displace_an_intact_one(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        save(tmp_path, step, keep=3)
    (tmp_path / "step-000000003" / checkpoint_files.VALUES).write_text("")
    run = Checkpoints(tmp_path, keep=2)
    found = run.read_newest()
    assert found is not None and found.step == 2
    run.write(4, {"weight": torch.ones(1)}, {})
    assert steps(tmp_path) == [2, 4]


def test_a_damaged_milestone_is_replaced_by_a_milestone(tmp_path: Path) -> None:
    save(tmp_path, 2, milestone=True)
    (tmp_path / "step-000000002" / checkpoint_files.VALUES).write_text("")
    save(tmp_path, 2)
    for step in (3, 4, 5):
        save(tmp_path, step)
    assert steps(tmp_path) == [2, 4, 5]


def test_an_intact_checkpoint_of_another_process_is_not_replaced(tmp_path: Path) -> None:
    run = Checkpoints(tmp_path, keep=1)
    assert run.read_newest() is None
    save(tmp_path, 2)
    before = files(tmp_path)
    with pytest.raises(FileExistsError, match="already exists and is intact"):
        run.write(2, {"weight": torch.ones(1)}, {})
    assert files(tmp_path) == before


def test_other_names_are_ignored(tmp_path: Path) -> None:
    (tmp_path / "step-000000007").write_text("a file")
    (tmp_path / "step-best").mkdir()
    for step in (1, 2, 3):
        save(tmp_path, step, keep=1)
    found = newest_checkpoint(tmp_path)
    assert found is not None and found.step == 3
    assert (tmp_path / "step-000000007").exists() and (tmp_path / "step-best").exists()


@pytest.mark.parametrize("name", ["EINVAL", "ENOTSUP"])
def test_a_folder_that_cannot_be_flushed_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    original = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda number: raising(name)() if os.path.isdir(f"/dev/fd/{number}") else original(number)
    )
    save(tmp_path, 1, milestone=True)
    assert newest_checkpoint(tmp_path) is not None
    monkeypatch.setattr(os, "fsync", raising(name))
    with pytest.raises(OSError, match=os.strerror(getattr(errno, name))):  # for a file it is an error
        save(tmp_path, 2)
    monkeypatch.setattr(os, "fsync", raising("EIO"))
    with pytest.raises(OSError, match="Input/output error"):
        save(tmp_path, 3)
    assert steps(tmp_path) == [1]


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_file_permissions_follow_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        save(tmp_path, 1, milestone=True)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "step-000000001").iterdir()}
    names = (checkpoint_files.TENSORS, checkpoint_files.VALUES, checkpoint_files.SUMS, checkpoint_files.MILESTONE)
    assert modes == dict.fromkeys(names, 0o666 & ~mask)
