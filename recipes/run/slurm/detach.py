"""Submission of a whole study at once: each run starts in Slurm once the run that it starts from has succeeded (`afterok`)."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from recipes.result import read_result
from recipes.run.attempts import is_folder_in_use
from recipes.run.engine import Job
from recipes.run.runner import job_of
from recipes.run.slurm.engine import SlurmEngine
from recipes.run.slurm.programs import SlurmBusy
from recipes.run.states import log_end, noted_end, read_state
from recipes.study.plan import PlannedRun

RunState = str
"""What `submit_all` finds or does: done, in the queue, submitted, skipped, in use."""


def submit_all(
    runs: Sequence[PlannedRun], folder: Path, engine: SlurmEngine, print_line: Callable[[str], None]
) -> dict[str, RunState]:
    """Submit every run that is neither done nor in Slurm's queue, and print what was found; return each run's state by id.

    `folder` contains the run folders. A run that failed is submitted again, with a line that says how it failed. Runs that start
    from a run that diverged, or that another process works on outside of Slurm, are not submitted.
    """
    states: dict[str, RunState] = {}
    jobs: dict[str, str] = {}
    queue = engine.read(folder / run.id for run in runs)
    for stage in dict.fromkeys(run.stage for run in runs):
        groups: dict[str | None, list[tuple[PlannedRun, Job]]] = {}
        for run in (run for run in runs if run.stage == stage):
            job = job_of(run, folder)
            listed = queue.get(job.folder.resolve())
            states[run.id] = _find(run, folder, states)
            if states[run.id] == "submitted" and listed is not None and listed.queued.is_live:
                states[run.id], jobs[run.id] = "in the queue", listed.queued.job
            elif states[run.id] == "submitted" and is_folder_in_use(job.folder):
                states[run.id] = "in use"
                print_line(f"{run.id}: its folder is in use by another process")
            elif states[run.id] == "submitted":
                if (how := noted_end(log_end(job.folder))) is not None:
                    print_line(f"FAILED before: {run.id}  {how}; submitted again")
                groups.setdefault(jobs.get(run.needs or ""), []).append((run, job))
        for after, alike in groups.items():
            names = {job: run.id for run, job in alike}
            submitted = {names[job]: number for job, number in engine.submit(list(names), after).items()}
            others = _taken_by_others([job for job in names if names[job] not in submitted], engine)
            jobs |= submitted | {name: number for name, number in others.items() if number}
            states |= {name: "in the queue" if number else "done" for name, number in others.items()}
    print_line(", ".join(f"{count} {state}" for state, count in Counter(states.values()).items()))
    return states


def _taken_by_others(jobs: Sequence[Job], engine: SlurmEngine) -> dict[str, str]:
    """Return Slurm's ids, by run, of jobs that were not submitted because another process has just done so; "": it is done by now.

    Raise SlurmBusy for one that is neither in the queue nor done: Slurm took only some of the jobs.
    """
    queue = engine.read(job.folder for job in jobs) if jobs else {}
    taken: dict[str, str] = {}
    for job in jobs:
        listed = queue.get(job.folder.resolve())
        is_done = read_state(job.folder) == "done"
        if not is_done and (listed is None or not listed.queued.is_live):
            raise SlurmBusy(f"it took only some of the jobs, not that of {job.folder.name}")
        taken[job.folder.name] = "" if is_done or listed is None else listed.queued.job
    return taken


def _find(run: PlannedRun, folder: Path, states: dict[str, RunState]) -> RunState:
    """Return the state of a run as its folder and the run that it starts from have it; submitted: it is to be."""
    result = read_result(folder / run.id)
    if result is not None and result.is_final:
        return "done"
    if run.needs is None:
        return "submitted"
    if states[run.needs] in ("skipped", "in use"):
        return states[run.needs]
    needed = read_result(folder / run.needs)
    return "skipped" if states[run.needs] == "done" and needed is not None and not needed.is_usable else "submitted"
