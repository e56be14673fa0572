"""How many processes load batches, and how many threads decode images before training, where `data.workers` is `auto`."""

import os
from typing import Literal

from common.cores import available_cores, local_processes, process_cores

SHARED_MEMORY = "/dev/shm"
Workers = int | Literal["auto"]
"""The value of `data.workers`."""
_MOST = 16
_ON_CPU = 2
"""They keep up with a CPU that trains, and take the least from it."""
_SHARED_BYTES = 256 * 2**20
"""Shared memory of a worker: the two batches that wait have 2 x 128 MiB with 256 images in DINO's views (2x224 + 8x96)."""


def count_workers(workers: Workers, *, on_gpu: bool) -> int:
    """Return the number of a loader's worker processes.

    `auto` on a GPU: all cores of this process but one, at most 16, and no more than its part of the shared memory suffices for, but
    at least 2.
    """
    if workers != "auto":
        return workers
    if not on_gpu:
        return _ON_CPU
    return min(max(1, process_cores() - 1), _MOST, max(2, _shared_bytes() // _SHARED_BYTES))


def count_threads(workers: Workers) -> int:
    """Return the number of threads that decode images before training; `auto`: the cores of this process, at most 16."""
    return max(1, workers) if workers != "auto" else min(process_cores(), _MOST)


def _shared_bytes() -> int:
    """Return the part of the shared memory that is this process's, like its cores, at most what is free.

    Where its size is not known, as on other systems than Linux, there is enough.
    """
    try:
        status = os.statvfs(SHARED_MEMORY)
    except (AttributeError, OSError):
        return _MOST * _SHARED_BYTES
    cores = available_cores()
    parts = max(1, cores // min(cores, process_cores()), local_processes())
    return min(status.f_blocks // parts, status.f_bavail) * status.f_frsize
