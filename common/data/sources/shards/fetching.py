"""Shards of a server that are copied to a disk of the node when data loaders read them."""

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from copy import copy
from functools import cache
from pathlib import Path

from common.data.sources.file_lock import hold_lock
from common.data.sources.shards.places import OpenShard, RemoteShard, ShardChanged, ShardPlace, size_in
from common.data.sources.shards.shard_cache import ShardCache
from common.errors import is_disk_error
from common.files import fsync

_log = logging.getLogger(__name__)

_READS_BEFORE_FETCH = 3
"""Images of a shard that a process asks the server for one by one, before it fetches the whole shard: a small label subset may have
no more in it."""
_READS_WITHOUT_ROOM = 50
"""Requests for images of a shard after the limit left no room for its copy: by then other copies may be out of use."""
_READS_AFTER_FAILURE = 1000
"""Requests for images of a shard after a copy of it could not be written."""
_CHUNK = 8 << 20


class FetchedShard:
    """A shard on a server, read from its copy if there is one. `fetching` returns the one that makes a copy."""

    def __init__(self, remote: RemoteShard, cache: ShardCache) -> None:
        self._remote, self._cache = remote, cache
        self._fetches, self._num_reads = False, 0

    def fetching(self) -> "FetchedShard":
        """Return the same shard, which is copied once a process has read some of its images.

        Only data loaders of training and of complete splits read so. Verification, fingerprints, statistics, the search for
        duplicates and evaluations of samples read a few images of many shards, or each image once, before training: copies of all
        these shards would be of no use to them, and would take the room from the shards that training reads.
        """
        found = copy(self)
        found._fetches = True
        return found

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
        return self._remote.state()

    def open(self) -> AbstractContextManager[OpenShard]:
        """Open the file on the server."""
        return self._remote.open()

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from the copy, or by a request where there is none.

        If it is `fetching`, the shard is copied after the first requests, unless it is larger than the limit on all copies.
        """
        data = self._read_copy(offset, size)
        if data is None and self._fetches and self.fits:
            if self._num_reads >= _READS_BEFORE_FETCH and self._fetch():
                data = self._read_copy(offset, size)
            self._num_reads += 1
        return self._remote.read(offset, size) if data is None else data

    @property
    def size(self) -> int:
        """Return the length of the file in bytes."""
        return size_in(self.state())

    @property
    def fits(self) -> bool:
        """Return whether the shard alone is within the limit on all copies."""
        return self._cache.can_hold(self.size)

    @property
    def _path(self) -> Path:
        """Return the path of the copy, which is another one for another server or state of the file."""
        digest = hashlib.blake2b(f"{self._remote.url}\0{self.state()}".encode(), digest_size=4).hexdigest()
        return self._cache.path_of(self._remote.relative_name, digest)

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
        path = self._path
        try:
            with hold_lock(self._cache.lock_of(path), f"the copy of {self.title}"):
                if path.exists() or self._copy(path):
                    return True
            self._num_reads = -_READS_WITHOUT_ROOM
            _warn_of_limit(self._cache.limit_bytes or 0)
        except OSError as error:
            if not is_disk_error(error):
                raise
            self._num_reads = -_READS_AFTER_FAILURE
            words = (self.title, path, error.strerror or error)
            _log.warning("data.stage_to: %s is not copied to %s (%s); its images are requested from the server", *words)
        return False

    def _copy(self, path: Path) -> bool:
        """Copy the file under a temporary name, then rename it; return False if there is no room for it.

        What was copied of it before is kept.
        """
        with self._remote.open() as opened:
            part = self._cache.reserve(path, opened.size)
            if part is None:
                return False
            with part.open("ab") as file:
                while (position := file.tell()) < opened.size:
                    try:
                        data = opened.read(position, min(_CHUNK, opened.size - position))
                    except ShardChanged:
                        part.unlink()
                        raise
                    if not data:
                        raise OSError(
                            f"{self.title}: ends at byte {position} of {opened.size}; it has changed on the server"
                        )
                    file.write(data)
            fsync(part)
            part.replace(path)
            fsync(path.parent)
        return True


def warn_of_large_shards(shards: Sequence[ShardPlace], limit_bytes: int | None, *, title: str) -> None:
    """Log how many of the shards of a split are larger than the limit on all copies, and the largest one."""
    large = [shard for shard in shards if isinstance(shard, FetchedShard) and not shard.fits]
    if limit_bytes is None or not large:
        return
    largest = max(large, key=lambda shard: shard.size)
    _log.warning(
        "data.stage_gigabytes = %g: %d of the %d shards of %s are larger and never copied (the largest, %s, has %g);"
        " their images are requested from the server. Raise it, or write smaller shards.",
        limit_bytes / 1e9,
        len(large),
        len(shards),
        title,
        largest.title,
        largest.size / 1e9,
    )


@cache
def _warn_of_limit(limit_bytes: int) -> None:
    """Log once in a process that copies in use leave no room for others."""
    _log.warning(
        "data.stage_gigabytes = %g: copies that are in use leave no room for another shard, whose images are requested from the"
        " server meanwhile. Raise it, or lower train.shuffle_shards, if training waits for images.",
        limit_bytes / 1e9,
    )
