"""Submission of a whole study at once: each run starts in Slurm once the run that it starts from has succeeded."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common.errors import UserError
from recipes.result import read_result
from recipes.run.attempts import is_folder_in_use
from recipes.run.engine import Job
from recipes.run.runner import job_of
from recipes.run.slurm.engine import SlurmEngine
from recipes.run.slurm.programs import SlurmBusy
from recipes.run.states import log_end, noted_end
from recipes.study.plan import PlannedRun

RunState = str
"""What `submit_all` finds or does: done, in the queue, submitted, not submitted (for now), skipped, in use."""


def submit_all(
    runs: Sequence[PlannedRun], folder: Path, engine: SlurmEngine, print_line: Callable[[str], None]
) -> dict[str, RunState]:
    """Submit every run that is neither done nor in Slurm's queue, and print what was found; return each run's state by id.

    `folder` contains the run folders. A run that failed is submitted again, with a line that says how it failed. Runs that start
    from a run that diverged, or that another process works on outside of Slurm, are not submitted.

    Raise SlurmBusy, after the states are printed, where Slurm takes only some of the runs for now, UserError where it refuses some.
    """
    states: dict[str, RunState] = {}
    numbers: dict[str, str] = {}
    """Slurm's ids of the jobs in the queue, by run."""
    refusal: SlurmBusy | UserError | None = None
    with engine.locked([folder / run.id for run in runs]) as queue:
        for stage in dict.fromkeys(run.stage for run in runs):
            new: dict[Job, PlannedRun] = {}
            for run in (run for run in runs if run.stage == stage):
                job = job_of(run, folder)
                listed, state = queue.get(job.folder.resolve()), _find(run, folder, states)
                if state is None and listed is not None and listed.queued.is_live:
                    state, numbers[run.id] = "in the queue", listed.queued.job
                elif state is None and is_folder_in_use(job.folder):
                    state = "in use"
                    print_line(f"{run.id}: its folder is in use by another process")
                elif state is None:
                    new[job] = run
                states[run.id] = state or "not submitted"
            after = {job: numbers[run.needs] for job, run in new.items() if run.needs in numbers}
            ends = {job: noted_end(log_end(job.folder)) for job in new}
            try:
                for job, number in engine.submitter.submit([*new], after) if refusal is None else ():
                    states[new[job].id], numbers[new[job].id] = "submitted", number
                    if (how := ends[job]) is not None:
                        print_line(f"FAILED before: {new[job].id}  {how}; submitted again")
            except (SlurmBusy, UserError) as error:
                refusal = error
    print_line(", ".join(f"{count} {state}" for state, count in Counter(states.values()).items()))
    if refusal is not None:
        raise refusal
    return states


def _find(run: PlannedRun, folder: Path, states: Mapping[str, RunState]) -> RunState | None:
    """Return the state of a run as its folder and the run that it starts from have it; None if it is to be submitted."""
    result = read_result(folder / run.id)
    if result is not None and result.is_final:
        return "done"
    if run.needs is None:
        return None
    if states[run.needs] in ("skipped", "in use", "not submitted"):
        return states[run.needs]
    needed = read_result(folder / run.needs)
    return "skipped" if states[run.needs] == "done" and needed is not None and not needed.is_usable else None
