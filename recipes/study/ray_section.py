"""Section `ray` of a study file, or a file of the same keys: the Ray cluster, and what each run asks of it.

ray:
  address: 10.0.0.1:6379
  gpus_per_node: 1
  cpus_per_process: 8
  stages: {pretrain: {gpus_per_node: 8}}

It changes where runs are executed and no number of theirs: it is no part of a run's hash.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from common.config_messages import Otherwise, Problem
from common.config_types import AtLeastOne
from recipes.study.section_files import merge_file
from recipes.study.sections import FileSection

AUTO = "auto"
"""Address of the Ray that runs on this machine, or that of the variable RAY_ADDRESS."""
LOCAL = "local"
"""Address of a Ray that the study starts on this machine, and ends with itself."""
NO_RAY_CLIENT = (
    "Ray Client is not supported. Run the command on a node of the cluster, with an address such as 10.0.0.1:6379."
)
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)([KMGT])")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class RayStageEntry(FileSection):
    """What a run of a stage asks of Ray; what is not set is that of the section."""

    nodes: AtLeastOne | None = None
    """Nodes of a run; on Ray always 1."""
    gpus_per_node: Annotated[int, Field(ge=0), Otherwise("must not be negative.")] | None = None
    """GPUs of a run (default: 0)."""
    processes_per_node: AtLeastOne | None = None
    """Processes of a run (default: one per GPU, without GPUs one)."""
    cpus_per_process: AtLeastOne | None = None
    """CPUs of each process, which are also its number of threads (default: 1)."""
    memory: str | None = None
    """Memory of a run, such as 32G. Ray reserves it on the run's node and does not limit the run to it."""

    def problems(self) -> Iterator[Problem]:
        """Yield a problem for several nodes, and for a size in another form."""
        if self.nodes is not None and self.nodes > 1:
            yield (
                "nodes",
                f"{self.nodes}: on Ray a run is on one node. Use --engine slurm for runs over several nodes, or start the run by"
                " hand as in docs/several_machines.md.",
            )
        if self.memory is not None and not _MEMORY.fullmatch(self.memory):
            yield "memory", f"{self.memory}: must be a number with a unit, such as 512M or 32G."


class RayEntry(RayStageEntry):
    """The Ray cluster, and what each run of a study asks of it."""

    address: str | None = None
    """Address of the cluster (10.0.0.1:6379), auto for that of this machine, or local for one that the study starts here. Default:
    that of the variable RAY_ADDRESS, otherwise that of this machine, otherwise local."""
    retries: Annotated[int, Field(ge=0), Otherwise("must not be negative.")] = 3
    """How often in a row a run is started again, without a new checkpoint, after its node was lost or it was interrupted."""
    stages: dict[str, RayStageEntry] = {}
    """Other values for single stages, by the stage's name."""

    def problems(self) -> Iterator[Problem]:
        """Yield the problems of the keys, and of an address of Ray Client."""
        yield from super().problems()
        if self.address is not None and "://" in self.address:
            yield "address", f"{self.address}: {NO_RAY_CLIENT}"


def memory_bytes(memory: str) -> int:
    """Return a size in bytes."""
    found = _MEMORY.fullmatch(memory)
    assert found is not None
    return int(float(found[1]) * _UNITS[found[2]])


def build_ray(section: RayEntry, path: Path | None, stages: tuple[str, ...]) -> RayEntry:
    """Return the section of a study with the keys of the file `path` over it; raise UserError for an invalid file.

    `stages` are the names of the study's stages.
    """
    return merge_file("ray", RayEntry, section, path, stages)
