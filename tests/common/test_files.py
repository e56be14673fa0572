"""Files of a run: whole, with the rights of the umask, and never taken for missing because they cannot be looked at."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from common import files, tensor_files
from common.files import is_there, list_folder, write_whole
from common.tensor_files import read_tensors, write_tensors


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE, errno.EIO, errno.ENODEV, errno.ELOOP])
def test_an_error_of_the_system_is_not_a_missing_file(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Path.exists and its kin say no to some of these, from Python 3.14 on to all."""

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "stat", fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        is_there(Path("anything"))


def test_missing_files_are_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert is_there(tmp_path) and is_there(tmp_path / "file")
    assert not is_there(tmp_path / "none") and not is_there(tmp_path / "file" / "below")
    assert list_folder(tmp_path / "none") == []
    assert [entry.name for entry in list_folder(tmp_path)] == ["file"]


def test_a_link_that_leads_nowhere_is_no_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").symlink_to(tmp_path / "gone")
    with pytest.raises(OSError, match="leads nowhere"):
        list_folder(tmp_path / "folder")
    with pytest.raises(OSError, match="folder is a link that leads nowhere"):
        list_folder(tmp_path)


@pytest.fixture(params=[0o002, 0o022, 0o077])
def mask(request: pytest.FixtureRequest) -> Any:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_a_kill_left_lends_its_rights_to_no_file(tmp_path: Path, mask: int) -> None:
    for name in (".text.writing", "tensors"):
        (tmp_path / name).write_text("half")
        (tmp_path / name).chmod(0o600)
    write_whole(tmp_path / "text", "whole")
    write_tensors({"weight": torch.ones(3)}, tmp_path / "tensors")
    assert rights(tmp_path / "text") == rights(tmp_path / "tensors") == 0o666 & ~mask
    assert (tmp_path / "text").read_text() == "whole" and sorted(os.listdir(tmp_path)) == ["tensors", "text"]


def test_the_librarys_own_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".tmpAb3dE9", ".tmpAb3dE8", ".tmpfolder-of-mine", "tmpAb3dE9"):
        (tmp_path / name).write_text("half")
        (tmp_path / name).chmod(0o644 if name == ".tmpAb3dE8" else 0o600)
    write_tensors({"weight": torch.ones(3)}, tmp_path / "tensors")
    assert sorted(os.listdir(tmp_path)) == [".tmpAb3dE8", ".tmpfolder-of-mine", "tensors", "tmpAb3dE9"]


def test_a_file_system_that_sets_no_rights_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "chmod", refuse)
    write_tensors({"weight": torch.ones(3)}, tmp_path / "tensors")
    assert read_tensors(tmp_path / "tensors")["weight"].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("content", [b"", b"abc", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_file_is_told_from_one_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tensors"
    path.write_bytes(content)
    if content.endswith(b"{}      "):
        assert read_tensors(path) == {}
    else:
        with pytest.raises(tensor_files.SafetensorError):
            read_tensors(path)
    with pytest.raises(IsADirectoryError):
        read_tensors(tmp_path)


@pytest.mark.parametrize("by_many", [False, True])
def test_a_file_that_cannot_be_written_leaves_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_many: bool
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "study.yaml").write_text("old")
    monkeypatch.setattr("common.files.flush", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "study.yaml", "new", by_many=by_many)
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"] and (
        tmp_path / "study.yaml"
    ).read_text() == "old"


def test_processes_that_write_one_file_do_not_get_into_each_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two studies that end at the same moment: the other one writes between this one's text and its rename."""
    usual, mine = files.flush, os.getpid()

    def flush(path: Path) -> None:
        if path.name.startswith(".study") and os.getpid() == mine:
            monkeypatch.setattr(os, "getpid", lambda: mine + 1)
            write_whole(tmp_path / "study.yaml", "theirs", by_many=True)
            assert (tmp_path / "study.yaml").read_text() == "theirs"
        usual(path)

    monkeypatch.setattr(files, "flush", flush)
    write_whole(tmp_path / "study.yaml", "mine", by_many=True)
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"] and (
        tmp_path / "study.yaml"
    ).read_text() == "mine"
