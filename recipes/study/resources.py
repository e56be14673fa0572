"""What a run asks of a cluster: the keys of an engine's section, those of the run's stage over them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol


@dataclass(frozen=True)
class Resources:
    """What a run asks for. Runs with equal resources may be one job array of Slurm."""

    partition: str | None = None
    account: str | None = None
    time: str | None = None
    memory: str | None = None
    nodes: int = 1
    gpus_per_node: int = 0
    processes_per_node: int = 1
    cpus_per_process: int = 1

    @property
    def num_processes(self) -> int:
        """Return the number of processes of a run over all of its nodes."""
        return self.nodes * self.processes_per_node

    @property
    def cpus_per_node(self) -> int:
        """Return the cores of a run on each of its nodes."""
        return self.processes_per_node * self.cpus_per_process

    @property
    def is_on_cpu(self) -> bool:
        """Return whether its processes, of which there are several, use no GPU: accelerate is to be told."""
        return self.num_processes > 1 and not self.gpus_per_node


class _Section(Protocol):
    """Section of an engine: some of the fields of `Resources`, None where they are not set, and the same for single stages."""

    @property
    def stages(self) -> Mapping[str, Any]:
        """Return the values of stages by name."""


def resources_of(section: _Section, stage: str) -> Resources:
    """Return what a run of a stage asks for: the stage's keys, then those of the section, then the defaults of `Resources`.

    By default there is a process for each GPU of a node, and one without GPUs.
    """
    given: dict[str, Any] = {}
    for entry in (section, section.stages.get(stage)):
        values = {field.name: getattr(entry, field.name, None) for field in fields(Resources)}
        given |= {name: value for name, value in values.items() if value is not None}
    return Resources(**{"processes_per_node": max(1, given.get("gpus_per_node", 0)), **given})
