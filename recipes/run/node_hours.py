"""Node-hours that a study still needs, on each engine."""

from collections.abc import Mapping, Sequence

from common.cores import available_cores
from common.training.cost import Cost
from recipes.run.engines import default_jobs, visible_devices
from recipes.run.runner import pluralize
from recipes.run.states import State
from recipes.study.plan import PlannedRun
from recipes.study.ray_section import RayEntry
from recipes.study.resources import Resources, resources_of
from recipes.study.slurm_section import SlurmEntry


def remaining_hours(
    runs: Sequence[PlannedRun], costs: Mapping[str, Cost], states: Mapping[str, State], rates: Mapping[str, float]
) -> dict[str, float]:
    """Return the device-hours of the runs that are not done, by stage; `rates` are MACs per second and device by stage.

    A stage without a rate is not in it.
    """
    hours: dict[str, float] = {}
    for run in runs:
        if states[run.id] != "done" and run.stage in rates:
            hours[run.stage] = hours.get(run.stage, 0.0) + costs[run.id].macs / rates[run.stage] / 3600
    return hours


def node_hours(device_hours: Mapping[str, float], entry: SlurmEntry, ray: RayEntry) -> list[str]:
    """Return the lines of a plan on node-hours; `device_hours` by stage, of which a node does as many at once as it has devices.

    On this machine a device is a GPU, or the cores of one of the runs that are executed at a time. Under Slurm a run has its nodes
    to itself; on Ray, runs share nodes, which are taken to be as large as this machine.
    """
    if not device_hours:
        return []
    here = default_jobs(visible_devices())
    by_stage = {stage: resources_of(entry, stage) for stage in device_hours}
    by_stage_on_ray = {stage: resources_of(ray, stage) for stage in device_hours}
    slurm = sum(hours / by_stage[stage].processes_per_node for stage, hours in device_hours.items())
    shapes = dict.fromkeys(
        f"{pluralize(own.nodes, 'node')} with {pluralize(own.processes_per_node, 'process', 'processes')}"
        for own in by_stage.values()
    )
    shared = {stage: _runs_per_node(own) for stage, own in by_stage_on_ray.items()}
    on_ray = sum(
        hours / (shared[stage] * by_stage_on_ray[stage].processes_per_node) for stage, hours in device_hours.items()
    )
    counts = " or ".join(pluralize(count, "run") for count in dict.fromkeys(shared.values()))
    return [
        f"node-hours that remain: {sum(device_hours.values()) / here:.3g} on this machine ({pluralize(here, 'run')} at a time),"
        f" {slurm:.3g} with --engine slurm ({', '.join(shapes)} per run),"
        f" {on_ray:.3g} with --engine ray (nodes like this machine, each with {counts} at a time)"
    ]


def _runs_per_node(resources: Resources) -> int:
    """Return how many runs a node as large as this machine has at a time; 1 if it is too small for one."""
    by_cores = available_cores() // resources.cpus_per_node
    by_gpus = len(visible_devices()) // resources.gpus_per_node if resources.gpus_per_node else by_cores
    return max(1, min(by_cores, by_gpus))
