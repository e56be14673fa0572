"""What a node does with a run: locks its folder, starts it under a guard, stops it, and records what became of it.

Nothing runs twice, however often a run was given to Ray: one that is done is not started, and one whose folder is in use is waited
for, on this node or on another one that counts as lost.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from common.errors import USER_ERROR, UserError
from common.files import path_exists
from common.locks import RUN_LOCK, is_in_use
from common.surroundings import INTERRUPTED
from recipes.result import read_result
from recipes.run.attempts import VISIBLE_SECONDS, describe_exit, is_stuck, newest_checkpoint
from recipes.run.ray import guard
from recipes.run.ray.tasks import Task, TaskRecord, TaskState, place_of, read_record, write_record
from recipes.run.states import LOG, lock_run_folder, note_end

POLL_SECONDS = 1.0
"""Seconds between two looks at a folder that is in use."""
ORPHAN_SECONDS = 60.0
"""Time that a run gets to save when Ray has ended its worker."""


class NodeRun:
    """A run on this node."""

    def __init__(self, task: Task, node: str, at_end: Callable[[], None]) -> None:
        """Take the task and the name of this node; `at_end` is called when it has ended, however it has."""
        self.task, self.node, self.at_end = task, node, at_end
        self.folder = Path(task.folder)
        before = read_record(self.folder) or TaskRecord("queued")
        self.starts, self.lost_at = before.starts, before.lost_at
        if before.state == "started":  # the node or the worker that had it was lost
            self.lost_at = (*self.lost_at, newest_checkpoint(self.folder))
        self._is_stopped = threading.Event()
        self._guard: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="run", daemon=True)

    def begin(self) -> None:
        """Start it in a thread; raise UserError if this node does not see the study's files."""
        if not path_exists(place_of(self.folder)):
            raise UserError(
                f"{self.node}: sees no {place_of(self.folder)}. The study's folder must be on a file system that the nodes share."
            )
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Stop it: the run gets SIGTERM, saves and ends; after the grace it is killed. Does not wait."""
        self._is_stopped.set()
        self._signal(signal.SIGTERM)
        timer = threading.Timer(grace_seconds, self._signal, [signal.SIGKILL])
        timer.daemon = True
        timer.start()

    def is_alive(self) -> bool:
        """Return whether it has not ended."""
        return self._thread.is_alive()

    def _run(self) -> None:
        """Run it to its end, and record that."""
        try:
            self._record(*self._execute_until_done())
        except (UserError, OSError) as error:
            self._record("failed", f"{self.node}: {error}")
        finally:
            self.at_end()

    def _execute_until_done(self) -> tuple[TaskState, str]:
        """Run it, again if it was interrupted from outside; return the final state and its reason."""
        while not self._is_stopped.is_set():
            if is_stuck(self.lost_at, self.task.retries):
                return self._fail(f"lost {self.task.retries + 1} times in a row without a new checkpoint")
            if not self._wait_for_needed():
                return self._fail(f"{Path(self.task.needs or '').name}, from which it starts, is not done")
            if (lock := self._lock()) is None:
                break
            self.starts += 1
            self._record("started", "")
            try:
                code = self._execute(lock)
            finally:
                os.close(lock)
            if code == USER_ERROR and is_in_use(self.folder / RUN_LOCK):
                continue  # a run that locks its folder on another host, where locks are not seen here, was first
            if not self._is_done() and code not in (0, INTERRUPTED):
                return self._fail(describe_exit(code))
            if self._is_done():
                break
            self.lost_at = (*self.lost_at, newest_checkpoint(self.folder))
        return ("done", "") if self._is_done() else ("stopped", "stopped with its study")

    def _is_done(self) -> bool:
        """Return whether the run has a final result."""
        result = read_result(self.folder)
        return result is not None and result.is_final

    def _wait_for_needed(self) -> bool:
        """Return whether the run that this one starts from is done, as soon as its result is visible on this node."""
        deadline = time.monotonic() + VISIBLE_SECONDS
        while self.task.needs is not None and not self._is_stopped.is_set():
            result = read_result(Path(self.task.needs))
            if result is not None and result.is_final:
                return True
            if time.monotonic() > deadline:
                return False
            self._is_stopped.wait(POLL_SECONDS)
        return True

    def _lock(self) -> int | None:
        """Lock the run's folder and return the descriptor; None if the run is done, or is to stop."""
        while not self._is_stopped.is_set():
            lock = lock_run_folder(self.folder)
            if self._is_done():
                if lock is not None:
                    os.close(lock)
                return None
            if lock is not None:
                return lock
            self._is_stopped.wait(POLL_SECONDS)
        return None

    def _execute(self, lock: int) -> int:
        """Run the command until it ends; return its exit code, that of a signal negative."""
        arguments = [str(lock), str(ORPHAN_SECONDS), *self.task.command]
        with (self.folder / LOG).open("ab", buffering=0) as log:
            start = f"$ {shlex.join(self.task.command)}\n# actor {self.task.name} of Ray on {self.node}\n"
            log.write(start.encode(errors="surrogateescape"))
            process = subprocess.Popen(
                [sys.executable, "-S", guard.__file__, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                cwd=self.task.directory,
                start_new_session=True,
                pass_fds=(lock,),
            )
        self._guard = process
        if self._is_stopped.is_set():  # while it was started
            self._signal(signal.SIGTERM)
        assert process.stdout is not None
        printed = process.stdout.read().split()
        process.wait()
        return int(printed[-1]) if printed else -signal.SIGKILL

    def _signal(self, number: int) -> None:
        """Ask the guard for a signal to the run, if there is one."""
        if self._guard is not None and self._guard.stdin is not None:
            try:
                self._guard.stdin.write(b"%d\n" % number)
                self._guard.stdin.flush()
            except OSError:
                return  # it has ended

    def _environment(self) -> dict[str, str]:
        """Return the environment variables of the run: those of the study, with the GPUs that Ray gives it."""
        given = {name: value for name, value in os.environ.items() if name.endswith("VISIBLE_DEVICES")}
        return {**self.task.environment, **(given if self.task.gpus else {"CUDA_VISIBLE_DEVICES": ""})}

    def _fail(self, reason: str) -> tuple[TaskState, str]:
        """Note in the run's log how it failed; return the state and the reason."""
        note_end(self.folder, reason)
        return "failed", reason

    def _record(self, state: TaskState, reason: str) -> None:
        """Write what became of the task."""
        write_record(self.folder, TaskRecord(state, reason, self.node, time.time(), self.starts, self.lost_at))
