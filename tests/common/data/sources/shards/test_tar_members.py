"""Members of tar files are found where the standard library finds them, in all its formats."""

import io
import tarfile
from pathlib import Path

import pytest

from common.data.sources.shards.places import LocalShard
from common.data.sources.shards.tar_members import BLOCK, Member, TarFile
from common.errors import UserError

NAMES = ["a.cls", "b.jpg", "Größe/ü.png", f"{'long/' * 40}{'n' * 120}.jpg"]
SIZES = [0, 1, BLOCK, 20_000]


def write_tar(path: Path, *, tar_format: int) -> Path:
    """Write a tar file with files of several sizes, a folder and a link."""
    with tarfile.open(path, "w", format=tar_format) as tar:
        tar.addfile(_header("folder", type=tarfile.DIRTYPE))
        for name in NAMES:
            for size in SIZES:
                tar.addfile(_header(f"{size}-{name}", size=size), io.BytesIO(bytes([size % 251]) * size))
        tar.addfile(_header("link", type=tarfile.SYMTYPE, linkname="0-a.cls"))
    return path


def _header(name: str, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def members(path: Path) -> list[Member]:
    """Return the members of a tar file."""
    with LocalShard(path, path.parent).open() as opened:
        return list(TarFile(str(path), opened).members())


@pytest.mark.parametrize("tar_format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_of_the_standard_library(tmp_path: Path, tar_format: int) -> None:
    """Names, positions and sizes equal tarfile's."""
    path = write_tar(tmp_path / "a.tar", tar_format=tar_format)
    with tarfile.open(path) as tar:
        expected = [Member(each.name, each.offset_data, each.size) for each in tar if each.isfile()]
    assert len(expected) == 16
    assert members(path) == expected


def test_ustar_prefix(tmp_path: Path) -> None:
    """A long path in the old format is divided into prefix and name."""
    name = f"{'folder/' * 20}image.jpg"
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(_header(name, size=3), io.BytesIO(b"abc"))
    assert members(tmp_path / "a.tar") == [Member(name, BLOCK, 3)]


@pytest.mark.parametrize(("keep", "words"), [(0.5, "is incomplete"), (0.0, "")])
def test_an_incomplete_file_is_named(tmp_path: Path, keep: float, words: str) -> None:
    """A shard whose copy was interrupted is an error that names it; an empty one has no members."""
    path = write_tar(tmp_path / "a.tar", tar_format=tarfile.GNU_FORMAT)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    if not words:
        assert members(path) == []
        return
    with pytest.raises(UserError, match=rf"{path} is damaged .*{words}"):
        members(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Bytes that are no header are an error with their position."""
    (tmp_path / "a.tar").write_bytes(b"x" * 2000)
    with pytest.raises(UserError, match="there is no header at byte 0"):
        members(tmp_path / "a.tar")
