"""Node-hours that a study still needs, on each engine."""

from collections.abc import Mapping, Sequence

from common.training.cost import Cost
from recipes.run.engines import default_jobs, visible_devices
from recipes.run.runner import pluralize
from recipes.run.states import State
from recipes.study.plan import PlannedRun
from recipes.study.slurm_section import SlurmEntry, resources_of


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


def node_hours(device_hours: Mapping[str, float], entry: SlurmEntry) -> list[str]:
    """Return the lines of a plan on node-hours; `device_hours` by stage, of which a node does as many at once as it has devices.

    On this machine a device is a GPU, or the cores of one of the runs that are executed at a time.
    """
    if not device_hours:
        return []
    here = default_jobs(visible_devices())
    by_stage = {stage: resources_of(entry, stage) for stage in device_hours}
    there = sum(hours / by_stage[stage].processes_per_node for stage, hours in device_hours.items())
    shapes = dict.fromkeys(
        f"{pluralize(own.nodes, 'node')} with {pluralize(own.processes_per_node, 'process', 'processes')}"
        for own in by_stage.values()
    )
    return [
        f"node-hours that remain: {sum(device_hours.values()) / here:.3g} on this machine ({pluralize(here, 'run')} at a time),"
        f" {there:.3g} with --engine slurm ({', '.join(shapes)} per run)"
    ]
