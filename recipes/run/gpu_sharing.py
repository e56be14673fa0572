"""How many runs of a study share a GPU by default: several where steps are so small that the GPU waits for their launches."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

from common.cores import available_cores

SMALL_STEP_MACS = 5e10
"""MACs of a step that no GPU of today needs 10 ms for, which its launches take: digits have some 1e9, `cifar10_cpu` 3e9."""
_MOST = 4
"""Measured on an H100 with 16 cores: of runs of the quick start, 5 ended in 59 s four at a time, 3 in 61 s one at a time."""
_CORES = 2
"""Cores for each run: one launches its steps, one prepares its batches."""
_FREE_BYTES = 4 * 2**30
"""Free memory of the GPU for each run, several times what a step as small needs, with the context of its process."""


class Gpu(NamedTuple):
    """What nvidia-smi says about a GPU."""

    number: str
    uuid: str
    free_bytes: float
    is_shareable: bool
    """Whether more than one process may use it at a time."""


def runs_per_gpu(devices: Sequence[str], step_macs: Callable[[], float | None]) -> int:
    """Return how many runs of one process share each of the GPUs `devices` (numbers or UUIDs): 1 where anything is unknown.

    `step_macs` returns the MACs of the largest step of the study's runs, None if they are not known.
    """
    found = {name: gpu for gpu in read_gpus() for name in (gpu.number, gpu.uuid)} if devices else {}
    gpus = [found.get(device) for device in devices]
    known = [gpu for gpu in gpus if gpu is not None and gpu.is_shareable]
    if not known or len(known) < len(gpus):
        return 1
    by_memory = int(min(gpu.free_bytes for gpu in known) // _FREE_BYTES)
    most = min(_MOST, available_cores() // (_CORES * len(known)), by_memory)
    if most <= 1:
        return 1
    macs = step_macs()
    return most if macs is not None and macs <= SMALL_STEP_MACS else 1


def read_gpus() -> list[Gpu]:
    """Return the GPUs of this machine; none where nvidia-smi is missing or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    words = [tool, "--query-gpu=index,uuid,memory.free,compute_mode", "--format=csv,noheader,nounits"]
    lines = subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
    rows = [tuple(map(str.strip, line.split(","))) for line in lines]
    return [
        Gpu(number, uuid, float(mebibytes) * 2**20, mode == "Default")
        for number, uuid, mebibytes, mode in (row for row in rows if len(row) == 4)
        if mebibytes.replace(".", "", 1).isdecimal()
    ]
