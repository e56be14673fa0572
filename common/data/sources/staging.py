"""Copies of a dataset's shards on a disk of the node (`data.stage_to`), made once and read in place of the originals."""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.data.sources.file_lock import hold_lock
from common.errors import UserError, is_disk_error
from common.files import replace_atomically

_log = logging.getLogger(__name__)

_THREADS = 4
"""Shards that are copied at a time."""
_LOCK = ".stage.lock"


def stage_files(files: Sequence[Path], root: Path, stage_to: Path, *, title: str) -> list[Path]:
    """Return copies of `files`, which lie under `root`, below the folder `stage_to`, in their order.

    A copy is complete under its name, with the size and the time of change of its original; another one is made anew. One process
    of a node copies what is missing, the others wait. A copy that was interrupted resumes with the next shard. Raise UserError if
    the disk has too little room for what is missing, before anything is copied, or if it cannot be written.
    """
    folder = stage_to / f"{root.name or 'root'}-{_short_hash(os.path.realpath(root))}"
    copies = [folder / path.relative_to(root) for path in files]
    if not _missing(files, copies):
        return copies
    try:
        with hold_lock(folder / _LOCK, f"the copy of {title}"):
            if missing := _missing(files, copies):
                _copy_all(missing, folder, title=title)
    except OSError as error:
        if not is_disk_error(error):
            raise
        raise UserError(
            f"data.stage_to = {stage_to}: the copy of {title} cannot be written ({error.filename or folder}:"
            f" {error.strerror or error}). Set it to a folder with room on a disk of each node, or remove the key."
        ) from error
    return copies


def _missing(files: Sequence[Path], copies: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return the pairs of a file and its copy whose copy is not there, or is that of another state of the file."""
    return [(file, copy) for file, copy in zip(files, copies, strict=True) if _state(copy) != _state(file)]


def _state(path: Path) -> tuple[int, int] | None:
    """Return the size and the second of the last change of a file; None if it does not exist."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, int(status.st_mtime)


def _copy_all(missing: Sequence[tuple[Path, Path]], folder: Path, *, title: str) -> None:
    """Copy files; raise UserError before the first one if there is too little room for all."""
    started, needed = time.monotonic(), sum(file.stat().st_size for file, _ in missing)
    for leftover in folder.rglob(".*.writing"):  # of a process that was killed
        leftover.unlink()
    free = shutil.disk_usage(folder).free
    freed = sum(copy.stat().st_size for _, copy in missing if copy.exists())  # copies that are replaced
    words = (title, len(missing), folder, f"{needed / 1e9:.2f} GB", f"{free / 1e9:.2f} GB")
    if free + freed < needed:
        raise UserError(
            "data.stage_to = {2}: {0} needs {3} for {1} shards, and the disk has {4} free; nothing was copied. Free some space, set"
            " it to a folder with room, or remove the key: the run then reads the shards where they are.".format(*words)
        )
    _log.info("data: %s: %d shards are copied once to %s: %s, of %s free", *words)
    with ThreadPoolExecutor(_THREADS) as pool:
        copied = [pool.submit(_copy, file, copy) for file, copy in missing]
        try:
            for each in copied:
                each.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _log.info("data: %s: copied in %.0f s", title, time.monotonic() - started)


def _copy(file: Path, copy: Path) -> None:
    """Copy a file with its time of change; a copy under its name is complete, and on the disk."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    before = _state(file)
    with replace_atomically(copy) as temporary:
        shutil.copyfile(file, temporary)
        shutil.copystat(file, temporary)
        if _state(temporary) != before:
            raise UserError(f"data.stage_to: {file} has changed while it was copied. Run the same command again.")


def _short_hash(text: str) -> str:
    return hashlib.blake2b(os.fsencode(text), digest_size=4).hexdigest()
