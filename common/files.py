"""Files: written whole, with the umask's rights; looked for without taking an error of the system for a missing file."""

import errno
import os
import re
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


def list_folder(path: Path, names: str = ".*") -> list["os.DirEntry[str]"]:
    """Return what lies in a folder under names that a pattern matches, nothing where there is no folder.

    A link that leads nowhere is an OSError: it is no proof that there is nothing, what it leads to may be away for a while.
    """
    try:
        with os.scandir(path) as entries:
            found = [entry for entry in entries if re.fullmatch(names, entry.name)]
    except FileNotFoundError:
        refuse_dangling(path)
        return []
    for entry in found:
        if entry.is_symlink() and not is_there(Path(entry.path)):
            refuse_dangling(Path(entry.path))
    return found


def refuse_dangling(path: Path) -> None:
    """Raise OSError for a path that leads nowhere and is a link: what lies behind it may be away for a while."""
    if path.is_symlink():
        raise OSError(errno.ENOLINK, f"{path.name} is a link that leads nowhere", str(path))


def write_whole(path: Path, text: str, *, by_many: bool = False) -> None:
    """Write a text file so that a reader sees the old text or the new one, never a part; it has the rights of the umask.

    `by_many`: other processes may write the file at the same moment; the last one's text stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}" if by_many else f".{path.name}.writing")
    temporary.unlink(missing_ok=True)  # a kill's, perhaps with other rights
    try:
        temporary.write_text(text, encoding="utf-8")
        flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


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
