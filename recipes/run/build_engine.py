"""The engine that a command line asks for."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError
from recipes.run.engine import Engine, Job
from recipes.run.engines import LocalSlots, accelerate_command, build_forkserver
from recipes.run.launching import PLAIN_CONFIG, SINGLE_PROCESS, launch_arguments
from recipes.run.slots import choose_slots
from recipes.run.slurm.engine import DEFAULT_JOBS, SlurmEngine, TaskCommand
from recipes.run.slurm.programs import check_programs
from recipes.study.slurm_section import Resources, SlurmEntry, build_slurm
from recipes.study.specification import BASELINES, Study


@dataclass(frozen=True)
class EngineOptions:
    """What the command line says about the engine."""

    name: str = "local"
    """local, this machine, or slurm."""
    jobs: int | None = None
    """Number of runs at a time; None: the engine's default."""
    accelerate_args: tuple[str, ...] = SINGLE_PROCESS
    no_prefork: bool = False
    slurm_file: Path | None = None
    detach: bool = False
    """Submit everything and return."""

    def check(self) -> None:
        """Raise UserError for options that the engine does not have."""
        if self.jobs is not None and self.jobs < 1:
            raise UserError(f"--jobs {self.jobs}: must be at least 1.")
        if self.name != "slurm":
            for option, is_given in (("--slurm", self.slurm_file is not None), ("--detach", self.detach)):
                if is_given:
                    raise UserError(
                        f"{option}: is for --engine slurm, and the engine is {self.name}. Add --engine slurm."
                    )
        elif self.accelerate_args != SINGLE_PROCESS:
            raise UserError(
                "--accelerate-args: with --engine slurm the processes of a run follow from nodes, gpus_per_node and"
                " processes_per_node of the study's section slurm, or of the file of --slurm. Set them there."
            )
        elif self.no_prefork:
            raise UserError("--no-prefork: with --engine slurm no run is forked. Remove the option.")
        elif self.detach and self.jobs is not None:
            raise UserError(f"--jobs {self.jobs}: with --detach all runs are submitted at once. Remove one of the two.")


EngineBuilder = Callable[[EngineOptions, Study], Engine]
"""(options, study) -> the engine that executes the study's runs."""


def build_engine(options: EngineOptions, study: Study) -> Engine:
    """Return the engine of a command line; raise UserError for options that it does not have, and on a machine without it."""
    options.check()
    if options.name == "slurm":
        return slurm_engine(options, study)
    return local_engine(options.jobs, options.accelerate_args, options.no_prefork)


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
    entry = slurm_of(study, options.slurm_file)
    check_programs()
    return SlurmEngine(entry, node_command(launch_arguments()), options.jobs or DEFAULT_JOBS)


def slurm_of(study: Study, file: Path | None) -> SlurmEntry:
    """Return what each run of a study asks of Slurm: the study's section, with the keys of a file over it."""
    stages = (*(stage.name for stage in study.stages), *([BASELINES] if study.baselines else []))
    return build_slurm(study.slurm, file, stages)


def node_command(launch: tuple[str, ...]) -> TaskCommand:
    """Return a function that builds the command of a job on each of its nodes; `launch` are the arguments for a single process."""

    def command(job: Job, resources: Resources) -> list[str]:
        if resources.num_processes == 1:
            return accelerate_command(launch)(job)
        numbers = (f"--num_processes={resources.num_processes}", f"--num_machines={resources.nodes}")
        plain = (*SINGLE_PROCESS[2:], f"--config_file={PLAIN_CONFIG}")
        if resources.nodes == 1:
            return accelerate_command(("--multi_gpu", *numbers, *plain))(job)
        start = [sys.executable, "-m", "recipes.run.slurm.node", "--multi_gpu", *numbers, *plain, "-m"]
        return [*start, job.module, *job.arguments]

    return command
