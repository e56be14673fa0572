"""Files are written atomically with the umask's permissions, and a system error never counts as a missing file."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from common import files, tensor_files
from common.files import list_folder, path_exists, write_atomic
from common.tensor_files import read_tensors, write_tensors


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO, errno.ENODEV, errno.ELOOP])
def test_system_error_is_not_a_missing_file(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Path.exists and similar methods return False for some of these errors, from Python 3.14 on for all."""

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        path_exists(Path("anything"))


def test_missing_files_do_not_exist(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert path_exists(tmp_path) and path_exists(tmp_path / "file")
    assert not path_exists(tmp_path / "none") and not path_exists(tmp_path / "file" / "below")
    assert list_folder(tmp_path / "none") == []
    assert [entry.name for entry in list_folder(tmp_path)] == ["file"]


def test_dangling_link_is_not_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(tmp_path / "gone")
    with pytest.raises(OSError, match="dangling symbolic link"):
        list_folder(tmp_path / "folder")
    with pytest.raises(OSError, match="folder is a dangling symbolic link"):
        list_folder(tmp_path)


@pytest.fixture(params=[0o002, 0o022, 0o077])
def mask(request: pytest.FixtureRequest) -> Any:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def permissions(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_leftovers_of_a_killed_write_do_not_affect_permissions(tmp_path: Path, mask: int) -> None:
    for name in (".text.writing", "tensors"):
        (tmp_path / name).write_text("half")
        (tmp_path / name).chmod(0o600)
    write_atomic(tmp_path / "text", "complete")
    write_tensors({"weight": torch.ones(3)}, tmp_path / "tensors")
    assert permissions(tmp_path / "text") == permissions(tmp_path / "tensors") == 0o666 & ~mask
    assert (tmp_path / "text").read_text() == "complete" and sorted(os.listdir(tmp_path)) == ["tensors", "text"]


def test_only_leftovers_of_safetensors_are_removed(tmp_path: Path) -> None:
    for name in (".tmpAb3dE9", ".tmpAb3dE8", ".tmpfolder-of-user", "tmpAb3dE9"):
        (tmp_path / name).write_text("half")
        (tmp_path / name).chmod(0o644 if name == ".tmpAb3dE8" else 0o600)
    write_tensors({"weight": torch.ones(3)}, tmp_path / "tensors")
    assert sorted(os.listdir(tmp_path)) == [".tmpAb3dE8", ".tmpfolder-of-user", "tensors", "tmpAb3dE9"]


def test_file_system_without_permissions_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "chmod", refuse)
    write_tensors({"weight": torch.ones(3)}, tmp_path / "tensors")
    assert read_tensors(tmp_path / "tensors")["weight"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("content", [b"", b"abc", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_damaged_and_unreadable_files_raise_different_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tensors"
    path.write_bytes(content)
    if content.endswith(b"{}      "):
        assert read_tensors(path) == {}
    else:
        with pytest.raises(tensor_files.SafetensorError):
            read_tensors(path)
    with pytest.raises(IsADirectoryError):
        read_tensors(tmp_path)


def test_text_and_bytes_are_written_and_replaced(tmp_path: Path) -> None:
    for content in ("Öl", b"\x00\xff", ""):
        write_atomic(tmp_path / "file", content)
        expected = content.encode() if isinstance(content, str) else content
        assert (tmp_path / "file").read_bytes() == expected
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("concurrent_writers", [False, True])
def test_failed_write_leaves_the_old_file_and_no_partial_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, concurrent_writers: bool
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "study.yaml").write_text("old")
    monkeypatch.setattr("common.files.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "study.yaml", "new", concurrent_writers=concurrent_writers)
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"] and (
        tmp_path / "study.yaml"
    ).read_text() == "old"


@pytest.mark.parametrize("other", ["os.getpid", "socket.gethostname", "threading.get_native_id"])
def test_concurrent_writers_do_not_interfere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    """Two studies finish at the same time: another process, machine or thread writes between one's write and its rename."""
    original, number_of_writes = files.fsync, 0

    def fsync(path: Path) -> None:
        nonlocal number_of_writes
        if path.name.startswith(".study") and (number_of_writes := number_of_writes + 1) == 1:
            monkeypatch.setattr(other, lambda: "7")
            write_atomic(tmp_path / "study.yaml", "other", concurrent_writers=True)
            assert (tmp_path / "study.yaml").read_text() == "other"
        original(path)

    monkeypatch.setattr(files, "fsync", fsync)
    write_atomic(tmp_path / "study.yaml", "own", concurrent_writers=True)
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"] and (
        tmp_path / "study.yaml"
    ).read_text() == "own"
