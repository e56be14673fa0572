"""Files: written whole, with the umask's rights; looked for without taking an error of the system for a missing file."""

import errno
import os
import stat
from pathlib import Path

_CANNOT_BE_FLUSHED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def is_there(path: Path) -> bool:
    """Tell whether a path leads to something; every error but that of a missing file is raised.

    `Path.exists`, `is_file` and `is_dir` say no to some errors, from Python 3.14 on to all of them.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def list_folder(path: Path) -> list["os.DirEntry[str]"]:
    """Return what lies in a folder, nothing where there is none; a link that leads nowhere is an OSError.

    A link is no proof that there is nothing: what it leads to may be away for a while.
    """
    try:
        with os.scandir(path) as entries:
            found = list(entries)
    except FileNotFoundError:
        if os.path.islink(path):
            raise OSError(errno.ENOENT, "it is a link that leads nowhere", str(path)) from None
        return []
    for entry in found:
        if entry.is_symlink() and not is_there(Path(entry.path)):
            raise OSError(errno.ENOENT, f"{entry.name} is a link that leads nowhere", entry.path)
    return found


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old text or the new one, never a part; it has the rights of the umask."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.unlink(missing_ok=True)  # a kill's, perhaps with other rights
    temporary.write_text(text, encoding="utf-8")
    flush(temporary)
    temporary.replace(path)


def flush(path: Path) -> None:
    """Force a file or folder onto the disk; a folder on a file system that cannot do so for folders is passed over."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_BE_FLUSHED or not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise
    finally:
        os.close(descriptor)
