"""Submissions: the jobs that a study has given to Slurm, each an array of runs that ask for the same resources.

A submission is a folder `<study>/slurm/<id>` with `script.sh`, `tasks.json`, the job's number (`job.txt`), the output of each
task's script (`<index>.txt`) and what became of it (`<index>.json`). The id is part of the job's name. So a job in Slurm's queue
is known to belong to a study even if the program that submitted it was killed, or got no answer, before it knew the job's number.
"""

import json
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from common.errors import UserError
from common.files import write_atomic
from recipes.run.engine import Job
from recipes.run.slurm.programs import NoAnswer, QueuedTask, SlurmBusy, job_named, submit
from recipes.run.slurm.tasks import JOB, TASKS, Task
from recipes.study.resources import Resources
from recipes.study.sbatch_lines import PREFIX
from recipes.study.slurm_section import SlurmEntry
from recipes.study.specification import REPOSITORY

FOLDER = "slurm"
"""Folder of the submissions in that of the study."""
_ID_DIGITS = 8
_ID = re.compile(r"[0-9a-f]{8}")


def place_of(folder: Path) -> Path:
    """Return where the submissions of a run are: in the study that has its folder, even if this one only links to it."""
    return folder.resolve().parent.parent / FOLDER


def new_submission(place: Path) -> Path:
    """Return the folder of a new submission in `place`, where a study has its submissions; it is not created."""
    return place / secrets.token_hex(_ID_DIGITS // 2)


def name_of(submission: Path) -> str:
    """Return the name of a submission's job."""
    label = re.sub(r"[^A-Za-z0-9._+-]", "_", submission.parent.parent.name) or "study"
    return f"{label}-{submission.name}"


def write_task(job: Job, command: Sequence[str], resources: Resources) -> Task:
    """Return the task of a job."""
    return Task(
        folder=str(job.folder.resolve()),
        command=tuple(command),
        needs=str(job.needs.resolve()) if job.needs is not None else None,
        nodes=resources.nodes,
        cpus_per_process=resources.cpus_per_process,
        on_cpu=resources.is_on_cpu,
    )


def submit_tasks(
    submission: Path, tasks: Mapping[int, Task], resources: Resources, entry: SlurmEntry, dependency: str = ""
) -> str:
    """Submit tasks, by their indices, as one array; return its job id. `dependency` is what it waits for, as sbatch takes it.

    `submission` is a new folder. Raise SlurmBusy or UserError as `submit` does, and remove it. After NoAnswer it stays: Slurm may
    take the jobs later, which then find their tasks in it and are known by its name.
    """
    submission.mkdir(parents=True)
    write_atomic(
        submission / TASKS, json.dumps({index: asdict(task) for index, task in tasks.items()}, indent=1) + "\n"
    )
    write_atomic(submission / "script.sh", _script(submission, entry))
    options = [
        f"--job-name={name_of(submission)}",
        f"--array={format_indices(tasks)}",
        f"--chdir={Path.cwd()}",
        f"--output={str(submission).replace('%', '%%')}/%a.txt",
        "--open-mode=append",
        "--export=ALL",
        "--requeue",
        f"--signal=B:USR1@{entry.save_seconds}",
        "--kill-on-invalid-dep=yes",
        *([f"--dependency={dependency}"] if dependency else []),
        *_resource_options(resources),
    ]
    try:
        job = submit(submission / "script.sh", options)
    except NoAnswer:
        found = None
        with suppress(SlurmBusy):
            found = job_named(name_of(submission))
        if found is None:
            raise
        job = found
    except (SlurmBusy, UserError):
        shutil.rmtree(submission)
        raise
    write_job(submission, job)
    return job


def write_job(submission: Path, job: str) -> None:
    """Write the number of a submission's job, which Slurm has taken."""
    write_atomic(submission / JOB, f"{job}\n")


def format_indices(indices: Iterable[int]) -> str:
    """Return the indices of an array as sbatch takes them: 0-3,7."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)


def _resource_options(resources: Resources) -> Iterator[str]:
    """Yield the options of sbatch for resources: one task per node, which starts the run's processes there."""
    for name, option in (("partition", "partition"), ("account", "account"), ("time", "time"), ("memory", "mem")):
        if (value := getattr(resources, name)) is not None:
            yield f"--{option}={value}"
    yield f"--nodes={resources.nodes}"
    yield "--ntasks-per-node=1"
    yield f"--cpus-per-task={resources.cpus_per_node}"
    if resources.gpus_per_node:
        yield f"--gpus-per-node={resources.gpus_per_node}"


def _script(folder: Path, entry: SlurmEntry) -> str:
    """Return the batch script: the user's options, the user's commands, then the job."""
    options = [line for line in entry.lines if line.startswith(PREFIX)]
    commands = [line for line in entry.lines if not line.startswith(PREFIX)]
    # exec: Slurm sends the signal before the time limit to the process of the script
    job = f"exec {shlex.quote(sys.executable)} -m recipes.run.slurm.job {shlex.quote(str(folder))}"
    path = f"export PYTHONPATH={shlex.quote(str(REPOSITORY))}${{PYTHONPATH:+:$PYTHONPATH}} PYTHONSAFEPATH=1"
    return "\n".join(["#!/bin/bash", *options, *commands, path, job, ""])


def submission_of(task: QueuedTask, place: Path) -> Path | None:
    """Return where the submission of a queued task is, if it has the name of one of those in `place`; otherwise None."""
    submission = place / task.name[-_ID_DIGITS:]
    return submission if _ID.fullmatch(submission.name) and task.name == name_of(submission) else None
