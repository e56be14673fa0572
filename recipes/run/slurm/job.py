"""What a job of a study does on its node: `python -m recipes.run.slurm.job <submission>`, in a task of a job array.

It locks the run's folder, starts the run, passes signals on to it, and writes what became of it. Nothing runs twice, however often
a run was submitted: a job that finds it done ends, and one that finds its folder in use waits.

Slurm's signals: USR1 comes before the time limit, USR2 from a study that is stopped, TERM when Slurm ends the job itself (its user
cancelled it, its node is wanted for another one, it is requeued). With each the run saves and ends with exit code 75. The job then
puts itself back into the queue, unless its study is stopped or Slurm has ended it, and has requeued it if that was to be.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from common.errors import USER_ERROR, UserError
from common.interruption import stop_signals
from common.locks import RUN_LOCK, is_in_use
from common.surroundings import INTERRUPTED
from recipes.result import read_result
from recipes.run.attempts import VISIBLE_SECONDS, describe_exit, is_stuck, newest_checkpoint
from recipes.run.environment import run_environment
from recipes.run.slurm.programs import SlurmBusy, requeue, state_of
from recipes.run.slurm.tasks import Task, TaskRecord, TaskState, read_record, read_tasks, write_record
from recipes.run.states import LOG, lock_run_folder, note_end

POLL_SECONDS = 2.0
"""Seconds between two looks at a folder that is in use."""
MAX_REQUEUES = 3
"""How often a run is started again at the same checkpoint before it counts as failed."""
MAIN_PROCESS = "RECIPES_MAIN_PROCESS"
"""Environment variable with the host and port of the first process of a run on several nodes."""
MAIN_HOST = "RECIPES_MAIN_HOST"
"""Environment variable with the name under which the other nodes find the first one, where that is not its own; set by the user."""


class RunJob:
    """Runs one task of a submission."""

    def __init__(self, submission: Path, index: int) -> None:
        """Read the task."""
        self.submission, self.index = submission, index
        self.task: Task = read_tasks(submission)[index]
        self.folder = Path(self.task.folder)
        self.before = read_record(submission, index)
        self.process: subprocess.Popen[bytes] | None = None
        self.signals: set[int] = set()

    def run(self) -> int:
        """Run it; return the exit code of the job: 0 if the run is done."""
        for number in stop_signals():
            signal.signal(number, self._on_signal)
        self._record("started", "")
        if (problem := self._problem_of_start()) is not None:
            return self._end(*problem, 1)
        code = 0
        while (lock := self._lock()) is not None:
            try:
                code = self._execute(lock)
            finally:
                os.close(lock)
            if code == USER_ERROR and is_in_use(self.folder / RUN_LOCK):
                continue  # a run that locks its folder on another host, where locks are not seen here, was first
            break
        return self._conclude(code)

    def _conclude(self, code: int) -> int:
        """Record what became of the run, and requeue the job where it is to be resumed; return the job's exit code."""
        result = read_result(self.folder)
        if result is not None and result.is_final:
            return self._end("done", result.status, 0)
        if code not in (0, INTERRUPTED) and not self.signals:
            words = describe_exit(code)
            note_end(self.folder, words)
            return self._end("failed", words, code if code > 0 else 128 - code)
        if signal.SIGUSR2 in self.signals:
            return self._end("stopped", "stopped with its study", INTERRUPTED)
        return self._requeue()

    def _requeue(self) -> int:
        """Put the job back into the queue, unless Slurm has ended it; return its exit code."""
        progress = (*(self.before.progress if self.before else ()), newest_checkpoint(self.folder))
        if is_stuck(progress, MAX_REQUEUES):
            reason = (
                f"no checkpoint was written in {MAX_REQUEUES + 1} starts: its time limit is too short, or it is killed"
            )
            return self._end("failed", reason, 1)
        self._record("interrupted", "saved; resumes from its checkpoint", progress)
        # Not SLURM_JOB_ID: that of an array's last task is the array's, which stands for all of its tasks.
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        deadline = time.monotonic() + VISIBLE_SECONDS
        self.signals.discard(signal.SIGTERM)
        try:
            state = state_of(job)
            message = requeue(job) if state == "RUNNING" else f"Slurm has ended the job ({state.lower() or 'unknown'})"
        except SlurmBusy as error:
            message = str(error)
        while not message and signal.SIGTERM not in self.signals and time.monotonic() < deadline:
            time.sleep(0.1)  # Slurm ends this process, and scontrol may have been ended with it
        if not message or signal.SIGTERM in self.signals:
            return INTERRUPTED
        print(f"not requeued: {message}", flush=True)
        return INTERRUPTED

    def _problem_of_start(self) -> tuple[TaskState, str] | None:
        """Return the state and the reason of a run that cannot start from the run that it needs; None if it can."""
        if self.task.needs is None:
            return None
        needs, deadline = Path(self.task.needs), time.monotonic() + VISIBLE_SECONDS
        while (result := read_result(needs)) is None or not result.is_final:
            if self.signals:
                return None
            if time.monotonic() > deadline:
                return "failed", f"{needs.name}, from which it starts, is not done"
            time.sleep(POLL_SECONDS)
        return None if result.is_usable else ("skipped", f"{needs.name} diverged; there are no weights to start from")

    def _lock(self) -> int | None:
        """Lock the run's folder and return the descriptor; None if the run is done, or this job is to stop."""
        said = False
        while not self.signals:
            lock = lock_run_folder(self.folder)
            result = read_result(self.folder)
            if result is not None and result.is_final:
                if lock is not None:
                    os.close(lock)
                return None
            if lock is not None:
                return lock
            if not said:
                print(f"{self.folder}: in use by another process; waiting for it", flush=True)
                said = True
            time.sleep(POLL_SECONDS)
        return None

    def _execute(self, lock: int) -> int:
        """Run the command until it ends; return its exit code, that of a signal negative."""
        command = [*self._srun(), *self.task.command]
        with (self.folder / LOG).open("ab", buffering=0) as log:
            job, where = os.environ["SLURM_JOB_ID"], os.environ.get("SLURM_JOB_NODELIST", socket.gethostname())
            log.write(f"$ {shlex.join(command)}\n# job {job} of Slurm on {where}\n".encode(errors="surrogateescape"))
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment()},
                start_new_session=True,
                pass_fds=(lock,),
            )
        for number in tuple(self.signals):  # one that came while it was started
            self.process.send_signal(number)
        return self.process.wait()

    def _srun(self) -> list[str]:
        """Return the words that start the command on every node; none for one node."""
        if self.task.nodes == 1:
            return []
        nodes, cores = f"--nodes={self.task.nodes}", f"--cpus-per-task={os.environ.get('SLURM_CPUS_PER_TASK', '1')}"
        return ["srun", nodes, "--ntasks-per-node=1", cores, "--kill-on-bad-exit=1", "--mpi=none"]

    def _environment(self) -> Mapping[str, str]:
        """Return the environment variables of the run's processes, in addition to the job's."""
        variables = run_environment(self.task.cpus_per_process)
        if self.task.on_cpu:
            variables["ACCELERATE_USE_CPU"] = "true"
        if self.task.nodes > 1:
            with socket.socket() as free:
                free.bind(("", 0))
                host = os.environ.get(MAIN_HOST) or socket.gethostname()
                variables[MAIN_PROCESS] = f"{host}:{free.getsockname()[1]}"
        return variables

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """Remember a signal and pass it on to the run. srun would kill the run at TERM, and passes USR1 on."""
        self.signals.add(number)
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR1 if self.task.nodes > 1 else number)

    def _record(self, state: TaskState, reason: str, progress: tuple[str, ...] | None = None) -> None:
        """Write what became of the task."""
        starts = int(os.environ.get("SLURM_RESTART_COUNT", "0")) + 1
        known = self.before.progress if self.before else ()
        words = state, reason, socket.gethostname(), os.environ["SLURM_JOB_ID"], starts
        write_record(self.submission, self.index, TaskRecord(*words, known if progress is None else progress))

    def _end(self, state: TaskState, reason: str, code: int) -> int:
        """Record the end of the task; return the exit code."""
        self._record(state, reason)
        print(f"{self.folder.name}: {state} ({reason})", flush=True)
        return code


def main(arguments: list[str]) -> int:
    """Run the task of this job; return its exit code."""
    try:
        return RunJob(Path(arguments[0]), int(os.environ["SLURM_ARRAY_TASK_ID"])).run()
    except (UserError, OSError) as error:
        print(f"error: {error}", flush=True)
        return USER_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
