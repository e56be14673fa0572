"""The engine that a command line asks for."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from common.errors import UserError
from recipes.run.engine import Engine, Job, TaskCommand
from recipes.run.engines import LocalSlots, accelerate_command, build_forkserver
from recipes.run.gpu_sharing import runs_per_gpu
from recipes.run.launching import PLAIN_CONFIG, SINGLE_PROCESS, launch_arguments
from recipes.run.ray.capacity import lacking
from recipes.run.ray.client import RayBusy, connect, import_ray
from recipes.run.ray.engine import DEFAULT_JOBS as DEFAULT_RAY_JOBS
from recipes.run.ray.engine import RayEngine
from recipes.run.slots import choose_slots
from recipes.run.slurm.engine import DEFAULT_JOBS, SlurmEngine
from recipes.run.slurm.programs import check_programs
from recipes.study.ray_section import build_ray
from recipes.study.resources import Resources, resources_of
from recipes.study.slurm_section import build_slurm
from recipes.study.specification import BASELINES, Study


@dataclass(frozen=True)
class EngineOptions:
    """What the command line says about the engine."""

    name: str = "local"
    """local, this machine, or slurm, or ray."""
    jobs: int | None = None
    """Number of runs at a time; None: the engine's default."""
    accelerate_args: tuple[str, ...] = SINGLE_PROCESS
    no_prefork: bool = False
    slurm_file: Path | None = None
    """File of --slurm, whose keys `with_files` sets over those of the study."""
    detach: bool = False
    """Submit everything and return."""
    ray_file: Path | None = None
    """File of --ray, in the same way."""

    def check(self) -> None:
        """Raise UserError for options that the engine does not have."""
        if self.jobs is not None and self.jobs < 1:
            raise UserError(f"--jobs {self.jobs}: must be at least 1.")
        given = (
            ("--slurm", "slurm", self.slurm_file is not None),
            ("--detach", "slurm", self.detach),
            ("--ray", "ray", self.ray_file is not None),
        )
        for option, name, is_given in given:
            if is_given and self.name != name:
                raise UserError(
                    f"{option}: is for --engine {name}, and the engine is {self.name}. Add --engine {name}."
                )
        if self.name == "local":
            return
        if self.accelerate_args != SINGLE_PROCESS:
            keys = "gpus_per_node and processes_per_node"
            raise UserError(
                f"--accelerate-args: with --engine {self.name} the processes of a run follow from"
                f" {'nodes, ' if self.name == 'slurm' else ''}{keys} of the study's section {self.name}, or of the file of"
                f" --{self.name}. Set them there."
            )
        if self.no_prefork:
            raise UserError(f"--no-prefork: with --engine {self.name} no run is forked. Remove the option.")
        if self.detach and self.jobs is not None:
            raise UserError(f"--jobs {self.jobs}: with --detach all runs are submitted at once. Remove one of the two.")

    def sharing_gpus(self, step_macs: Callable[[], float | None], print_line: Callable[[str], None]) -> "EngineOptions":
        """Return the options with several runs per GPU of this machine, where --jobs is not given and `runs_per_gpu` allows it."""
        if self.name != "local" or self.jobs is not None or self.accelerate_args != SINGLE_PROCESS:
            return self
        devices = choose_slots(None).devices
        if (per_gpu := runs_per_gpu(devices, step_macs)) == 1:
            return self
        print_line(f"{per_gpu} runs share a GPU, as their steps are small; --jobs {len(devices)} runs one on each")
        return replace(self, jobs=per_gpu * len(devices))


EngineBuilder = Callable[[EngineOptions, Study], Engine]
"""(options, study) -> the engine that executes the study's runs."""


def build_engine(options: EngineOptions, study: Study) -> Engine:
    """Return the engine of a command line; raise UserError for options that it does not have, and on a machine without it."""
    options.check()
    if options.name == "slurm":
        return slurm_engine(options, study)
    if options.name == "ray":
        return ray_engine(options, study)
    return local_engine(options.jobs, options.accelerate_args, options.no_prefork)


def check_engine(options: EngineOptions) -> None:
    """Raise UserError for what `build_engine` would refuse for every study, before a study is sized, which takes minutes."""
    options.check()
    launch_arguments(options.accelerate_args)
    if options.name == "slurm":
        check_programs()
    if options.name == "ray":
        import_ray()


def with_files(study: Study, slurm: Path | None, ray: Path | None) -> Study:
    """Return a study with the keys of the files of --slurm and --ray over its sections.

    Raise UserError for an invalid file, and for a stage that the study does not have.
    """
    stages = _stage_names(study)
    return replace(study, slurm=build_slurm(study.slurm, slurm, stages), ray=build_ray(study.ray, ray, stages))


def _stage_names(study: Study) -> tuple[str, ...]:
    """Return the names of a study's stages, as its sections of engines use them."""
    return (*(stage.name for stage in study.stages), *([BASELINES] if study.baselines else []))


def local_engine(jobs: int | None, accelerate_args: tuple[str, ...], no_prefork: bool) -> LocalSlots:
    """Return an engine with `jobs` slots on this machine, by default as many as its GPUs, or its cores, suffice for.

    Runs are forked from a preloaded process, except with `no_prefork` or with custom arguments of `accelerate launch`.
    """
    launch = launch_arguments(accelerate_args)
    slots = choose_slots(jobs, accelerate_args)
    forkserver = None if no_prefork or accelerate_args != SINGLE_PROCESS else build_forkserver(slots.count, launch)
    return LocalSlots(slots.count, accelerate_command(launch), slots.devices, forkserver, slots.processes)


def slurm_engine(options: EngineOptions, study: Study) -> SlurmEngine:
    """Return an engine that submits the runs to the Slurm cluster of this machine."""
    check_programs()
    return SlurmEngine(study.slurm, node_command(launch_arguments()), options.jobs or DEFAULT_JOBS)


def ray_engine(options: EngineOptions, study: Study) -> RayEngine:
    """Return an engine that runs on a Ray cluster, or on a Ray that it starts here."""
    command = node_command(launch_arguments())
    cluster = connect(study.ray.address)
    try:
        nodes = cluster.nodes()
        print(cluster.describe(nodes), flush=True)
    except RayBusy as error:
        raise UserError(f"--engine ray: Ray does not answer: {error}") from error
    for stage in _stage_names(study) if cluster.is_own else ():
        if words := lacking(resources_of(study.ray, stage), nodes):
            raise UserError(
                f"--engine ray: a run of the stage {stage} asks for {words}, which this machine does not have, and the study"
                " starts a Ray of its own here. Ask for less in the section ray, or set its address to that of a cluster."
            )
    return RayEngine(study.ray, command, cluster, options.jobs or DEFAULT_RAY_JOBS)


def node_command(launch: tuple[str, ...]) -> TaskCommand:
    """Return a function that builds the command of a job on each of its nodes; `launch` are the arguments for a single process."""

    def command(job: Job, resources: Resources) -> list[str]:
        """Return the words that start a job on one node, or on each of its nodes."""
        if resources.num_processes == 1:
            return accelerate_command(launch)(job)
        numbers = (f"--num_processes={resources.num_processes}", f"--num_machines={resources.nodes}")
        plain = (*SINGLE_PROCESS[2:], f"--config_file={PLAIN_CONFIG}")
        if resources.nodes == 1:
            return accelerate_command(("--multi_gpu", *numbers, *plain))(job)
        start = [sys.executable, "-m", "recipes.run.slurm.node", "--multi_gpu", *numbers, *plain, "-m"]
        return [*start, job.module, *job.arguments]

    return command
