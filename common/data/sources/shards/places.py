"""Where tar shards are read: files, and files on an HTTP server that answers requests for ranges of bytes."""

import email.message
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from common.data.sources.shards.addresses import shown_address
from common.data.sources.shards.connections import open_url

_log = logging.getLogger(__name__)

_TRIES = 6
_FIRST_WAIT_SECONDS = 0.5
"""Wait before a request is sent again; each further one is twice as long: 16 s in all."""
_TIMEOUT_SECONDS = 60.0
_MOST_WAIT_SECONDS = 300.0
"""Longest wait for a server that asks for one, in all tries of a request: limits mostly count the requests of some minutes."""
_RETRIED = (408, 429, 500, 502, 503, 504)
"""HTTP statuses after which a request is sent again."""
_PARTIAL, _BEYOND_END = 206, 416


class OpenShard(NamedTuple):
    """A tar file that is open for reading."""

    size: int
    """Its length in bytes."""
    read: Callable[[int, int], bytes]
    """Returns a number of bytes (the second) from a position on (the first); fewer at the end of the file."""


class ShardPlace(Protocol):
    """A tar file that is read by position."""

    @property
    def title(self) -> str:
        """Return its path or address, for messages."""

    @property
    def relative_name(self) -> str:
        """Return its name within the dataset, which does not depend on where the dataset is."""

    def state(self) -> str:
        """Return its size, a space and what else tells whether it has changed; raise OSError if it cannot be read."""

    def open(self) -> AbstractContextManager[OpenShard]:
        """Return a context in which it is open; raise OSError if it cannot be read."""

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from a position on, fewer at the end of the file; raise OSError if it cannot be read."""


@dataclass(frozen=True)
class LocalShard:
    """A tar file in a folder."""

    path: Path
    root: Path

    @property
    def title(self) -> str:
        """Return the path."""
        return str(self.path)

    @property
    def relative_name(self) -> str:
        """Return the path within the folder."""
        return self.path.relative_to(self.root).as_posix()

    def state(self) -> str:
        """Return size and time of the last change."""
        status = self.path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    @contextmanager
    def open(self) -> Iterator[OpenShard]:
        """Keep the file open."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            yield OpenShard(os.fstat(descriptor).st_size, lambda offset, size: os.pread(descriptor, size, offset))
        finally:
            os.close(descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Open the file, read and close it."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)


class ShardChanged(OSError):
    """A file on a server is another one than when a run began to read it."""


@dataclass(frozen=True)
class RemoteShard:
    """A tar file on an HTTP server. A request that fails for a while is sent again."""

    url: str
    relative_name: str

    @property
    def title(self) -> str:
        """Return the address, for messages."""
        return shown_address(self.url)

    def state(self) -> str:
        """Return the size and the server's tag or date of the file when it was first asked for."""
        return self._state

    @cached_property
    def _state(self) -> str:
        return _state_of(self._request(0, 1)[1])

    @contextmanager
    def open(self) -> Iterator[OpenShard]:
        """Yield the file; every read is a request."""
        yield OpenShard(size_in(self._state), self.read)

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from a position on, by one request; raise ShardChanged if the file is another one than before."""
        if not size:
            return b""
        data, headers = self._request(offset, size)
        if data and _state_of(headers) != self._state:
            raise ShardChanged(f"{self.title}: has changed on the server")
        return data

    def _request(self, offset: int, size: int) -> tuple[bytes, email.message.Message]:
        """Return a range of the file, and the headers; raise OSError that names the address if the last try fails."""
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={offset}-{offset + size - 1}"})
        left = _MOST_WAIT_SECONDS
        for number in range(_TRIES):
            last, wait = number == _TRIES - 1, _FIRST_WAIT_SECONDS * 2**number
            try:
                with open_url(request, timeout=_TIMEOUT_SECONDS) as response:
                    if response.status != _PARTIAL:
                        raise OSError(
                            f"{self.title}: the server does not send ranges of bytes (status {response.status})"
                        )
                    return response.read(), response.headers
            except urllib.error.HTTPError as error:
                if error.code == _BEYOND_END:
                    return b"", error.headers
                if last or error.code not in _RETRIED:
                    raise OSError(f"{self.title}: {error}") from error
                if (asked := min(_asked_wait(error.headers), left)) > wait:
                    _log.info("data.source: %s: %s; waiting %.0f s, as the server asks", self.title, error, asked)
                    left, wait = left - asked, asked
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                if last:
                    raise OSError(f"{self.title}: {error}") from error
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")


def _asked_wait(headers: email.message.Message) -> float:
    """Return the seconds that a server asks to wait before the next request (`Retry-After`), 0 if it asks for none."""
    seconds = headers.get("Retry-After", "").strip()
    return float(seconds) if seconds.isdecimal() else 0.0


def _state_of(headers: email.message.Message) -> str:
    """Return the size and the server's tag or date of a file from the headers of a range of it."""
    return f"{_total(headers)} {headers.get('ETag') or headers.get('Last-Modified') or ''}"


def size_in(state: str) -> int:
    """Return the length in bytes of a file from its `state`."""
    return int(state.partition(" ")[0])


def _total(headers: email.message.Message) -> int:
    """Return the length of a file from the headers of a range of it; 0 for an empty one."""
    found = re.fullmatch(r"bytes (?:\d+-\d+|\*)/(\d+)", headers.get("Content-Range", ""))
    return int(found[1]) if found else 0
