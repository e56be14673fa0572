"""Folder of the copies of a server's shards on a disk of the node, and the limit on their size that its processes keep together."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.data.sources.file_lock import hold_lock
from common.errors import UserError
from common.locks import is_locked

_COPY = re.compile(r".+-[0-9a-f]{8}\.tar", re.IGNORECASE)
_PART = re.compile(rf"\.(?P<copy>{_COPY.pattern})\.(?P<size>\d+)\.fetching", re.IGNORECASE)
"""Name of a part of a copy, with the size of the whole in bytes: that room is taken from the first byte on."""
_LOCK = ".room.lock"
_YOUNG_SECONDS = 60.0
"""A copy that was read within this time is not removed: other processes read it."""


class _Entry(NamedTuple):
    """A copy, or a part of one."""

    path: Path
    size: int
    """Room that it takes or will take, in bytes."""
    last_use: float
    in_use: bool


@dataclass(frozen=True)
class ShardCache:
    """Folder of copies and of nothing else."""

    folder: Path
    limit_bytes: int | None
    """Size that the copies do not exceed; None: there is no limit."""

    def check(self) -> None:
        """Raise UserError if the limit is more than the disk has room for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.limit_bytes is None:
            return
        room = shutil.disk_usage(self.folder).free
        for entry in self._entries():
            with suppress(FileNotFoundError):  # another process removes it
                room += entry.path.stat().st_size
        if room < self.limit_bytes:
            raise UserError(
                f"data.stage_gigabytes = {self.limit_bytes / 1e9:g}: the disk of {self.folder} has room for {room / 1e9:.2f}. Set"
                " it to less, or data.stage_to to a folder with more room."
            )

    def can_hold(self, size: int) -> bool:
        """Return whether a copy of `size` bytes is within the limit if there is no other."""
        return self.limit_bytes is None or size <= self.limit_bytes

    def path_of(self, relative_name: str, digest: str) -> Path:
        """Return the path of the copy of a shard; `digest` are 8 hexadecimal digits that tell it from others of the same name."""
        path = self.folder / relative_name
        return path.with_name(f"{path.stem}-{digest}{path.suffix}")

    def lock_of(self, copy: Path) -> Path:
        """Return the path of the lock that a process holds while it makes a copy."""
        return copy.with_name(f".{copy.name}.lock")

    def reserve(self, copy: Path, size: int) -> Path | None:
        """Return the path of the part from which a copy of `size` bytes is made; None if the limit leaves no room for it.

        The copies that were read longest ago make room, and parts that nobody completes. The room is taken while the part is there
        and the lock of the copy, which the caller holds, is held.
        """
        part = copy.with_name(f".{copy.name}.{size}.fetching")
        if self.limit_bytes is None:
            return part
        with hold_lock(self.folder / _LOCK):
            others = [entry for entry in self._entries() if entry.path != part]
            excess = sum(entry.size for entry in others) + size - self.limit_bytes
            unused = sorted((entry for entry in others if not entry.in_use), key=lambda entry: entry.last_use)
            if excess > sum(entry.size for entry in unused):
                return None
            for entry in unused:
                if excess <= 0:
                    break
                entry.path.unlink(missing_ok=True)
                excess -= entry.size
            part.touch()
        return part

    def _entries(self) -> Iterator[_Entry]:
        """Yield the copies and the parts of copies; whatever else a user keeps there is not ours."""
        for path in self.folder.rglob("*"):
            copied, part = _COPY.fullmatch(path.name), _PART.fullmatch(path.name)
            if not (copied or part) or (status := _status(path)) is None:
                continue
            size, in_use = status.st_size, time.time() - status.st_mtime < _YOUNG_SECONDS
            if part is not None:
                in_use = is_locked(self.lock_of(path.with_name(part["copy"])))
                size = int(part["size"]) if in_use else size
            yield _Entry(path, size, status.st_mtime, in_use)


def _status(path: Path) -> os.stat_result | None:
    """Return the status of a file; None if another process has removed it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None
