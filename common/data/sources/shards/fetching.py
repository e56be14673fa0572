"""Shards of a server that are copied to a disk of the node when they are read, and removed again when others need the room."""

import hashlib
import logging
import os
import re
import shutil
import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common.data.sources.file_lock import hold_lock
from common.data.sources.shards.places import OpenShard, RemoteShard
from common.errors import UserError, is_disk_error
from common.files import fsync

_log = logging.getLogger(__name__)

_READS_BEFORE_FETCH = 3
"""Images of a shard that a process asks the server for one by one, before it fetches the whole shard: verification decodes some
images of many shards. Fingerprints and the search for duplicates fetch nothing (`peek`)."""
_READS_BEFORE_NEXT_TRY = 1000
"""Requests for images of a shard after a copy of it could not be written."""
_CHUNK = 8 << 20
_YOUNG_SECONDS = 60.0
"""A copy that was read within this time is not removed: other processes read it."""


_COPY = re.compile(r"[^.].*-[0-9a-f]{8}\.tar", re.IGNORECASE)
"""Names of copies (`FetchedShard._path`)."""


@dataclass(frozen=True)
class ShardCache:
    """Folder of copies and of nothing else, with a limit on their size."""

    folder: Path
    limit_bytes: int | None
    """Size from which on the copies that were read longest ago are removed; None: there is no limit."""

    def check(self) -> None:
        """Raise UserError if the limit is more than the disk has room for."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.limit_bytes is None:
            return
        room = shutil.disk_usage(self.folder).free + sum(status.st_size for _, status in self._copies())
        if room < self.limit_bytes:
            raise UserError(
                f"data.stage_gigabytes = {self.limit_bytes / 1e9:g}: the disk of {self.folder} has room for {room / 1e9:.2f}. Set"
                " it to less, or data.stage_to to a folder with more room."
            )

    def make_room(self, needed: int) -> None:
        """Remove the copies that were read longest ago until the limit holds with `needed` bytes more."""
        if self.limit_bytes is None:
            return
        copies = sorted(self._copies(), key=lambda found: found[1].st_mtime)
        total = sum(status.st_size for _, status in copies) + needed
        for path, status in copies:
            if total <= self.limit_bytes or time.time() - status.st_mtime < _YOUNG_SECONDS:
                break
            path.unlink(missing_ok=True)
            total -= status.st_size

    def _copies(self) -> list[tuple[Path, os.stat_result]]:
        """Return the complete copies, with their size and the time of the last read."""
        found = []
        for path in self.folder.rglob("*.tar"):
            if _COPY.fullmatch(path.name):  # whatever else a user keeps there is not ours to remove
                with suppress(FileNotFoundError):  # another process removes it
                    found.append((path, path.stat()))
        return found


class FetchedShard:
    """A shard on a server, read from its copy once a process has read some of its images."""

    def __init__(self, remote: RemoteShard, cache: ShardCache) -> None:
        self._remote, self._cache = remote, cache
        self._num_reads = 0

    @property
    def title(self) -> str:
        """Return the address."""
        return self._remote.title

    @property
    def relative_name(self) -> str:
        """Return the name within the dataset."""
        return self._remote.relative_name

    def state(self) -> str:
        """Return the state of the file on the server when it was first asked for."""
        return self._state

    @cached_property
    def _state(self) -> str:
        return self._remote.state()

    def open(self) -> AbstractContextManager[OpenShard]:
        """Open the file on the server."""
        return self._remote.open()

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from the copy, made first if there is none; the first reads, and all without a copy, are requests."""
        data = self._read_copy(offset, size)
        if data is None and self._num_reads >= _READS_BEFORE_FETCH and self._fetch():
            data = self._read_copy(offset, size)
        self._num_reads += 1
        return self._remote.read(offset, size) if data is None else data

    def peek(self, offset: int, size: int) -> bytes:
        """Return bytes from the copy if there is one, otherwise by a request; nothing is copied for it."""
        data = self._read_copy(offset, size)
        return self._remote.read(offset, size) if data is None else data

    @property
    def _path(self) -> Path:
        """Return the path of the copy, which is another one for another server or state of the file."""
        digest = hashlib.blake2b(f"{self._remote.url}\0{self._state}".encode(), digest_size=4).hexdigest()
        path = self._cache.folder / self._remote.relative_name
        return path.with_name(f"{path.stem}-{digest}{path.suffix}")

    def _read_copy(self, offset: int, size: int) -> bytes | None:
        """Return bytes of the copy; None if there is none."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            with suppress(OSError):  # of another user: then the time is that of the copy
                os.utime(descriptor)
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def _fetch(self) -> bool:
        """Copy the file, unless another process has done so; return whether there is a copy, after a warning if not."""
        try:
            with hold_lock(self._path.with_name(f".{self._path.name}.lock"), f"the copy of {self.title}"):
                if not self._path.exists():
                    self._copy()
            return True
        except OSError as error:
            if not is_disk_error(error):
                raise
            self._num_reads = -_READS_BEFORE_NEXT_TRY
            words = (self.title, self._path, error.strerror or error)
            _log.warning("data.stage_to: %s is not copied to %s (%s); its images are requested from the server", *words)
            return False

    def _copy(self) -> None:
        """Copy the file under a temporary name, then rename it; what was copied of it before is kept."""
        with self._remote.open() as opened:
            temporary = self._path.with_name(f".{self._path.name}.fetching")
            with temporary.open("ab") as file:
                self._cache.make_room(opened.size - file.tell())
                while (position := file.tell()) < opened.size:
                    data = opened.read(position, min(_CHUNK, opened.size - position))
                    if not data:
                        raise OSError(
                            f"{self.title}: ends at byte {position} of {opened.size}; it has changed on the server"
                        )
                    file.write(data)
            if self._remote.state() != self._state:
                temporary.unlink()
                raise OSError(f"{self.title}: has changed on the server; start the run again")
            fsync(temporary)
            temporary.replace(self._path)
