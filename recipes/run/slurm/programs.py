"""Slurm's programs: sbatch, squeue, scancel and scontrol, called as a user calls them."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import UserError

ENDED = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    ]
)
"""Slurm's states of a job that has ended and does not start again; squeue lists such a job for some minutes."""
_FORMAT = "%F|%K|%T|%r|%N|%L|%j"
_SECONDS = 60.0
"""Longest time that a program of Slurm's may take: its own time limit for a message is 10 s, with several attempts."""
_TRANSIENT = re.compile(
    r"unable to contact|socket timed out|connection (refused|timed out|failure)|try again|temporarily|transport endpoint|"
    r"zero bytes were transmitted|message (send|receive) failure|standby mode",
    re.IGNORECASE,
)
"""Messages about a controller that does not answer, which pass."""
_LOST = re.compile(r"timed out|transport endpoint|zero bytes|receive failure", re.IGNORECASE)
"""Those of a message that may have reached the controller."""
_FULL = re.compile(r"(?:Max|Grp)SubmitJob", re.IGNORECASE)
"""Names of the limits on a user's submitted jobs, of which each task of an array is one."""
_TOO_LARGE = re.compile(r"invalid job array specification", re.IGNORECASE)
"""Message about an array with an index of MaxArraySize or above."""
_JOB = re.compile(r"(?:Submitted batch job )?(\d+)(?:;\S+)?(?: on cluster \S+)?")
"""A line of sbatch with the number of a job: as `--parsable` demands, or as a wrapper that a site has put around it prints."""
_CHOOSES_CLUSTER = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS"})
"""Variables that say which Slurm the programs ask."""
_OPTIONS = ("SLURM_", "SQUEUE_", "SCANCEL_")
"""Beginnings of the names of variables that stand for options of the programs, or describe a job."""
_TOKEN = "SLURM_JWT"


class SlurmBusy(Exception):
    """Slurm does not answer, or takes no more jobs, for now."""


class NoAnswer(SlurmBusy):
    """Slurm does not answer, and may have done what it was asked."""


class TooManyTasks(SlurmBusy):
    """Slurm takes no array of so many tasks."""

    def __init__(self, message: str, *, is_lasting: bool) -> None:
        """Take Slurm's message; `is_lasting`: it never takes one, whatever else is in the queue."""
        super().__init__(message)
        self.is_lasting = is_lasting


@dataclass(frozen=True)
class QueuedTask:
    """A task of a job array, as squeue lists it."""

    array: str
    index: int
    state: str
    """Slurm's state, such as PENDING, RUNNING or TIMEOUT."""
    reason: str
    """Why a job waits or has ended, in Slurm's words."""
    nodes: str
    time_left: str
    name: str

    @property
    def job(self) -> str:
        """Return the id under which Slurm's programs know it: <array>_<index>."""
        return f"{self.array}_{self.index}"

    @property
    def is_live(self) -> bool:
        """Return whether it waits, runs, or will run again."""
        return self.state not in ENDED

    @property
    def is_completing(self) -> bool:
        """Return whether it has ended but for what Slurm does afterwards, which may take hours on a node that is in trouble."""
        return self.state == "COMPLETING"


def check_programs() -> None:
    """Raise UserError if this machine has no Slurm."""
    missing = [name for name in ("sbatch", "squeue", "scancel", "scontrol") if shutil.which(name) is None]
    if missing:
        raise UserError(
            f"--engine slurm: {', '.join(missing)} not found. Run the command on a machine that submits jobs to the cluster,"
            " such as its login node, or load Slurm's module there."
        )


def submit(script: Path, options: Sequence[str]) -> str:
    """Submit a batch script with options of sbatch; return the id of its job.

    Raise SlurmBusy if that may succeed later, as NoAnswer if it may have succeeded, as TooManyTasks if a smaller array may succeed;
    UserError if Slurm refuses it.
    """
    done = _call(["sbatch", "--parsable", *options, str(script)])
    if done.returncode:
        if _FULL.search(done.stderr) or _TOO_LARGE.search(done.stderr):
            raise TooManyTasks(_reason(done), is_lasting=not _FULL.search(done.stderr))
        raise UserError(
            f"sbatch refuses the jobs: {_reason(done)}. Asked for: {' '.join(options)}. Change the study's section slurm, or the"
            " file of --slurm."
        )
    found = filter(None, map(_JOB.fullmatch, map(str.strip, done.stdout.splitlines())))
    if (line := next(found, None)) is None:
        raise NoAnswer(f"sbatch printed no number of a job, but {done.stdout.strip()[:200]!r}")
    return line[1]


def read_queue() -> list[QueuedTask]:
    """Return the tasks of this user's job arrays, those that ended in the last minutes included.

    Raise SlurmBusy if that fails, whatever the reason: what worked before may work again.
    """
    words = ["--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--format={_FORMAT}"]
    done = _call(["squeue", *words])
    if done.returncode:
        raise SlurmBusy(_reason(done))
    lines = (line.strip().split("|", 6) for line in done.stdout.splitlines())
    return [
        QueuedTask(array, int(index), state, reason, nodes, left, name)
        for array, index, state, reason, nodes, left, name in (line for line in lines if len(line) == 7)
        if index.isdecimal()
    ]


def job_named(name: str) -> str | None:
    """Return the id of the job array with a name; None if there is none. Raise SlurmBusy if Slurm does not answer."""
    return next((task.array for task in read_queue() if task.name == name), None)


def state_of(job: str) -> str:
    """Return Slurm's state of a job; an empty string if it is not known."""
    done = _call(["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"])
    return (done.stdout.split() or [""])[-1]  # where SLURM_CLUSTERS is set, the cluster's name stands above it


def cancel(jobs: Sequence[str], *options: str) -> None:
    """Cancel jobs; with `--signal` among the options of scancel, send them that signal. Those that have ended are ignored."""
    for first in range(0, len(jobs), 200):
        _call(["scancel", "--quiet", *options, *jobs[first : first + 200]])


def requeue(job: str) -> str:
    """Put a job back into the queue; return Slurm's message if it refuses, otherwise an empty string."""
    done = _call(["scontrol", "requeue", job])
    return _reason(done) if done.returncode else ""


def _call(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run a program of Slurm's; raise SlurmBusy if its controller does not answer.

    A Ctrl-C that stops the study does not end the program.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS, env=_environment(),
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"{command[0]} gave no answer within {_SECONDS:.0f} s") from error
    except OSError as error:
        raise UserError(f"{command[0]} cannot be started: {error.strerror or error}.") from error
    if done.returncode and _TRANSIENT.search(done.stderr):
        raise (NoAnswer if _LOST.search(done.stderr) else SlurmBusy)(_reason(done))
    return done


def _environment() -> dict[str, str]:
    """Return the variables of this process without those of the job in which it runs, which a job that it submits would take over.

    Nor are there those that stand for a user's options of squeue and scancel, or let sbatch wait for the end of a job: they would
    hide jobs, or ask before they are cancelled. A token counts outside of jobs alone: in one it has mostly expired, and the
    node has credentials of its own.
    """
    kept = _CHOOSES_CLUSTER if "SLURM_JOB_ID" in os.environ else _CHOOSES_CLUSTER | {_TOKEN}
    found = {
        name: value
        for name, value in os.environ.items()
        if name in kept or not (name.startswith(_OPTIONS) or name == "SBATCH_WAIT")
    }
    if clusters := found.get("SBATCH_CLUSTERS"):  # of sbatch alone: the other programs would look elsewhere
        found["SLURM_CLUSTERS"] = clusters
    return found


def _reason(done: "subprocess.CompletedProcess[str]") -> str:
    """Return what a program said about its failure, on one line, without a period."""
    return (" ".join(done.stderr.split()) or f"exit code {done.returncode}").rstrip(".")
