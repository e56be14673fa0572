"""Stored indexes of tar shards: built once, by one process, and read by all runs, processes and nodes.

They lie in the cache of Hugging Face datasets (HF_HOME or HF_DATASETS_CACHE), which a cluster's nodes usually share with the home
folder. The name of an index is a fingerprint of its shards: where one changes, the index is another. Where locks do not reach other
nodes (NFS mounted with `nolock`), two nodes may build the same index at a time; the one that is complete first counts.
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from common.data.sources.file_lock import hold_lock
from common.data.sources.shards.index import ShardIndex, ShardPart, build_index
from common.data.sources.shards.places import LocalShard, ShardPlace
from common.data.sources.shards.samples import read_samples
from common.errors import UserError, is_disk_error, system_error_message

_log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the arrays and of the rules by which labels are found: an index of another one is not read."""
_THREADS = 16
"""Shards whose headers are read at a time: on a shared disk, each read waits for the network."""


def index_folder() -> Path:
    """Return the folder of all indexes."""
    import datasets

    return Path(datasets.config.HF_DATASETS_CACHE) / "two_stage_vit_indexes"


def load_or_build(shards: Sequence[ShardPlace], *, label_column: str | None, title: str) -> tuple[ShardIndex, Path]:
    """Return the index of shards, and its folder; build it if there is none for them as they are now.

    Raise UserError for a shard that is damaged or cannot be read, and if the index cannot be written.
    """
    try:
        folder = index_folder() / fingerprint(shards, label_column=label_column)
    except OSError as error:
        raise _unreadable(shards, title, error) from error
    if (index := _load(folder)) is not None:
        return index, folder
    try:
        with hold_lock(folder.with_name(f"{folder.name}.lock"), f"the index of {title}"):
            if (index := _load(folder)) is not None:  # another process has built it meanwhile
                return index, folder
            _build(shards, folder, label_column=label_column, title=title)
    except OSError as error:
        if not is_disk_error(error):
            raise _unreadable(shards, title, error) from error
        raise UserError(
            f"data.source: the index of {title} is stored in {folder.parent}, which cannot be written"
            f" ({error.strerror or error}). Set HF_HOME or HF_DATASETS_CACHE to a folder with room that all nodes share."
        ) from error
    return ShardIndex.load(folder), folder


def _unreadable(shards: Sequence[ShardPlace], title: str, error: OSError) -> UserError:
    """Return the error of shards that cannot be read on their disk or server."""
    of_servers = " A server must know every address and send ranges of bytes."
    remedy = "" if isinstance(shards[0], LocalShard) else of_servers
    return UserError(f"data.source: {title}: {system_error_message(error)}{remedy}")


def fingerprint(shards: Sequence[ShardPlace], *, label_column: str | None) -> str:
    """Return the name of the index of shards: a hash of their names within the dataset, sizes, and times of the last change."""
    digest = hashlib.blake2b(f"{FORMAT}\0{label_column}".encode(), digest_size=16)
    with ThreadPoolExecutor(_THREADS) as pool:
        for shard, state in zip(shards, pool.map(lambda shard: shard.state(), shards), strict=True):
            digest.update(os.fsencode(f"\0{shard.relative_name}\0{state}"))
    return digest.hexdigest()


def _load(folder: Path) -> ShardIndex | None:
    """Return the stored index, or None if there is none."""
    try:
        return ShardIndex.load(folder)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _build(shards: Sequence[ShardPlace], folder: Path, *, label_column: str | None, title: str) -> None:
    """Read the headers of all shards and write their index; a folder of this name is complete."""
    started = time.monotonic()
    _log.info("data: the index of %s is built once, from the headers of %d shards", title, len(shards))
    with ThreadPoolExecutor(_THREADS) as pool:
        parts = list(pool.map(lambda shard: ShardPart(read_samples(shard, label_column=label_column)), shards))
    index = build_index(parts)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.{time.monotonic_ns()}")
    try:
        temporary.mkdir()
        index.save(temporary)
        with suppress(FileExistsError):  # another node was faster: its index is the same
            _rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _log.info("data: the index of %d images is in %s, built in %.0f s", len(index), folder, time.monotonic() - started)


def _rename(temporary: Path, folder: Path) -> None:
    """Rename a folder; raise FileExistsError if there is one of that name."""
    try:
        temporary.rename(folder)
    except OSError as error:
        if folder.is_dir():
            raise FileExistsError(str(folder)) from error
        raise
