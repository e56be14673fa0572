"""Atomic writes with the umask's permissions, and existence checks that do not mistake a system error for a missing file."""

import errno
import os
import re
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FSYNC_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def path_exists(path: Path) -> bool:
    """Return whether a path exists; raise every OSError except that of a missing file.

    `Path.exists`, `is_file` and `is_dir` return False for some other errors, from Python 3.14 on for all of them.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def list_folder(path: Path, names: str = ".*") -> list["os.DirEntry[str]"]:
    """Return the entries of a folder whose names match a regular expression; an empty list if the folder is missing.

    Raise OSError for a dangling symbolic link: its target may be temporarily unavailable, which is not the same as missing.
    """
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if re.fullmatch(names, entry.name)]
    except FileNotFoundError:
        raise_if_dangling(path)
        return []
    for entry in found:
        if entry.is_symlink() and not path_exists(Path(entry.path)):
            raise_if_dangling(Path(entry.path))
    return found


def raise_if_dangling(path: Path) -> None:
    """Raise OSError if a path that does not resolve is a symbolic link: its target may be temporarily unavailable."""
    if path.is_symlink():
        raise OSError(errno.ENOLINK, f"{path.name} is a dangling symbolic link", str(path))


def write_atomic(path: Path, content: str | bytes, *, concurrent_writers: bool = False) -> None:
    """Write a file atomically (see `replace_atomically`); its permissions follow the umask."""
    with replace_atomically(path, concurrent_writers=concurrent_writers) as temporary:
        if isinstance(content, str):
            temporary.write_text(content, encoding="utf-8")
        else:
            temporary.write_bytes(content)


@contextmanager
def replace_atomically(path: Path, *, concurrent_writers: bool = False) -> Iterator[Path]:
    """Yield a temporary path to write to; then flush it to disk and rename it to `path`, or remove it after an exception.

    A reader sees the old file or the new one, never a part. `concurrent_writers`: other threads, processes and machines may write
    the file at the same time; the last one wins.
    """
    writer = (
        f"{socket.gethostname()[:32]}.{os.getpid()}.{threading.get_native_id()}" if concurrent_writers else "writing"
    )
    temporary = path.with_name(f".{path.name}.{writer}")
    with naming(path):
        temporary.unlink(missing_ok=True)  # left by a killed process, perhaps with other permissions
        try:
            yield temporary
            fsync(temporary)
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):  # the first error counts
                temporary.unlink(missing_ok=True)
            raise
        fsync(path.parent)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in an OSError within a `with` block: those of a full disk name no file, others a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename, error.filename2 = str(path), None
        raise


def fsync(path: Path) -> None:
    """Flush a file or folder to disk; skip a folder on a file system that cannot flush folders."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FSYNC_UNSUPPORTED or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)
