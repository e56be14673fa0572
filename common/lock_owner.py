"""Owner of a lock file: a line that names its process, host and boot, with a counter that the process rewrites.

flock is local to a host on some shared file systems (NFS mounted with `nolock` or `local_lock`, Lustre with `localflock`), and
others have no locks at all. There, the counter shows a process on another host that the owner is alive. No clocks are compared.
"""

import os
import re
import secrets
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

HEARTBEAT_SECONDS = 5.0
"""Seconds between two rewrites of the counter."""
OBSERVE_SECONDS = 2.5 * HEARTBEAT_SECONDS
"""An owner whose line does not change for so long is dead."""
_LINE = re.compile(rb"(process \d+ on [^,\n]+), boot ([^,\n]+), id ([0-9a-f]+), beat \d+\n")
_MAX_BYTES = 4096


@cache
def boot_id() -> str:
    """Return an identifier of this machine since it was booted; hosts may share a name. Without one, the host's name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or socket.gethostname()
    except OSError:
        return socket.gethostname()


class OwnerLine:
    """The line of this process in a lock file that it has locked."""

    def __init__(self, descriptor: int, path: Path) -> None:
        """Write the line; `descriptor`, of the file at `path`, may be read-only, and the disk may be full: then there is none."""
        self.descriptor, self.path = descriptor, path
        self.lost_to: str | None = None
        """Process and host of a new owner, which believed that this process was dead."""
        self._id, self._count = secrets.token_hex(4), 0
        self._previous, self._times = b"", (0, 0)
        with suppress(OSError):
            status = os.fstat(descriptor)
            self._times = status.st_atime_ns, status.st_mtime_ns
            self._previous = os.pread(descriptor, _MAX_BYTES, 0)
            os.truncate(descriptor, 0)
        self.beat()

    def beat(self) -> None:
        """Rewrite the line with the next count, unless another process has taken over."""
        with suppress(OSError):
            found = _LINE.fullmatch(os.pread(self.descriptor, _MAX_BYTES, 0))
            if self._count and found and found[3].decode() != self._id:
                self.lost_to = found[1].decode(errors="replace")
        if self.lost_to is None:
            self._count += 1
            owner = f"process {os.getpid()} on {socket.gethostname()}, boot {boot_id()}, id {self._id}"
            self._write(f"{owner}, beat {self._count:012d}\n".encode())

    def replaced_by(self) -> str | None:
        """Return process and host in another file that is at the path of this one; None if it is this one, or none is there."""
        try:
            own, there = os.fstat(self.descriptor), os.stat(self.path)
            return None if os.path.samestat(own, there) else name_of(self.path.read_text(errors="replace"))
        except OSError:
            return None

    def clear(self, *, restore: bool) -> None:
        """Remove the line, so that nobody waits for this process; `restore` what was there, if this run changes nothing."""
        if self.lost_to is not None:
            return
        with suppress(OSError):
            os.truncate(self.descriptor, 0)
        self._write(self._previous if restore else b"")
        if restore:
            with suppress(OSError):
                os.utime(self.descriptor, ns=self._times)

    def _write(self, content: bytes) -> None:
        """Write to the start of the file. Closing a copy of the descriptor flushes a network file system, as `close` does."""
        with suppress(OSError):
            os.pwrite(self.descriptor, content, 0)
            os.close(os.dup(self.descriptor))


class OwnerWatch:
    """Observes whether an owner on another host is alive. The file is opened anew for every look: NFS is coherent only then."""

    def __init__(self, path: Path, *, has_lock: bool = True) -> None:
        """Take a look. An owner on this host is dead if this process could lock the file (`has_lock`)."""
        self.path, self._has_lock = path, has_lock
        self._first, self._since = self._read(), time.monotonic()

    @property
    def owner(self) -> str:
        """Return process and host of the owner; an empty string if there is none."""
        found = _LINE.fullmatch(self._first)
        return found[1].decode(errors="replace") if found else ""

    def look(self) -> Literal["alive", "dead", "unknown"]:
        """Return whether the owner is alive; unknown for the first `OBSERVE_SECONDS`."""
        if not self._may_be_alive(self._first):
            return "dead"
        now = self._read()
        if now != self._first:
            return "alive" if self._may_be_alive(now) else "dead"
        return "dead" if time.monotonic() - self._since > OBSERVE_SECONDS else "unknown"

    def _may_be_alive(self, content: bytes) -> bool:
        found = _LINE.fullmatch(content)
        return found is not None and not (self._has_lock and found[2].decode(errors="replace") == boot_id())

    def _read(self) -> bytes:
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:
            return b""
        try:
            return os.pread(descriptor, _MAX_BYTES, 0)
        except OSError:
            return b""
        finally:
            os.close(descriptor)


def name_of(content: str) -> str:
    """Return process and host from the text of a lock file."""
    return content.partition(", boot ")[0].strip()[:300]
