"""A Ray of forked processes, for tests: what a study asks of it (`RayClient`), with actors that outlive the study's process.

An actor is a file with its task and a process that waits for one of the `SLOTS`, then does what a node does (`NodeRun`). A lost
actor is constructed again, as Ray does.
"""

import fcntl
import json
import os
import signal
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mini_ray import processes_of

from recipes.run.ray.capacity import Node
from recipes.run.ray.client import RayBusy
from recipes.run.ray.node_run import NodeRun
from recipes.run.ray.tasks import Task
from recipes.study.resources import Resources

SLOTS = 4
POLL_SECONDS = 0.02


class FakeRay:
    """A fake Ray whose state is in `folder`; several processes may use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.is_silent = False
        self.questions = 0
        """How often it was asked for its nodes."""
        self.problems: dict[str, str] = {}
        folder.mkdir(exist_ok=True)

    def names(self) -> set[str]:
        """Return the names of the actors."""
        if self.is_silent:
            raise RayBusy("no answer")
        return {path.stem for path in self.folder.glob("*.task")}

    def submit(self, task: Task, resources: Resources) -> bool:
        """Create an actor: its own process writes its file, so that there is none without a process if this one is killed."""
        return self._fork(task.name, json.dumps(asdict(task)))

    def stop(self, name: str, grace_seconds: float) -> None:
        """Stop a run."""
        (self.folder / f"{name}.stop").write_text(str(grace_seconds))

    def kill(self, name: str) -> None:
        """End an actor, but not its run."""
        (self.folder / f"{name}.task").unlink(missing_ok=True)
        self._kill(name)

    def problem(self, name: str) -> str:
        """Return why an actor could not begin."""
        return self.problems.get(name, "")

    def nodes(self) -> list[Node]:
        """Return what the only node has, and count the question."""
        if self.is_silent:
            raise RayBusy("no answer")
        self.questions += 1
        return [{"CPU": 64, "GPU": 4, "memory": 2**40}]

    def lose(self, name: str, *, with_run: bool = True, is_forgotten: bool = False) -> None:
        """Kill an actor, and its run with it as a node that is lost; construct it again, unless Ray forgets it as well."""
        folder = Path(json.loads((self.folder / f"{name}.task").read_text())["folder"])
        self._kill(name, signal.SIGSTOP)  # its end is noticed by the run's guard, which would let the run save
        for pid in processes_of(folder) if with_run else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._kill(name)
        if is_forgotten:
            (self.folder / f"{name}.task").unlink()
        else:
            self._fork(name)

    def shutdown(self) -> None:
        """End all actors."""
        for name in self.names():
            self.kill(name)

    def _kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to an actor's process."""
        with suppress(ProcessLookupError, FileNotFoundError, ValueError):
            os.kill(int((self.folder / f"{name}.pid").read_text()), number)

    def _fork(self, name: str, task: str = "") -> bool:
        """Start an actor's process, which is no child of this one; return whether it began: no other has the name of a new task."""
        answer, end = os.pipe()
        child = os.fork()
        if child:
            os.close(end)
            os.waitpid(child, 0)
            has_begun = os.read(answer, 1) == b"1"
            os.close(answer)
            return has_begun
        try:
            os.setsid()
            if os.fork():
                os._exit(0)
            for number in (
                signal.SIGTERM,
                signal.SIGINT,
                signal.SIGUSR1,
                signal.SIGUSR2,
                signal.SIGXCPU,
                signal.SIGHUP,
            ):
                signal.signal(number, signal.SIG_DFL)
            if task and not self._create(name, task):
                os._exit(0)
            (self.folder / f"{name}.pid").write_text(str(os.getpid()))
            with suppress(BrokenPipeError):
                os.write(end, b"1")
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(null, descriptor)
            os.closerange(3, 1024)  # locks of the study's process, which a worker of Ray does not inherit
            self._act(name)
        finally:
            os._exit(1)

    def _create(self, name: str, task: str) -> bool:
        """Write the file of an actor; return False if there is one."""
        new = self.folder / f"{name}.new{os.getpid()}"
        new.write_text(task)
        try:
            os.link(new, self.folder / f"{name}.task")
        except FileExistsError:
            return False
        finally:
            new.unlink()
        return True

    def _act(self, name: str) -> None:
        """Do what a node does."""
        task: dict[str, Any] = json.loads((self.folder / f"{name}.task").read_text())
        slot, lock = self._take_slot()
        run = NodeRun(Task(**{**task, "command": tuple(task["command"])}), f"n{slot}", at_end=lambda: None)
        run.begin()
        stop = self.folder / f"{name}.stop"
        while run.is_alive():
            if stop.exists():
                run.stop(float(stop.read_text() or 0))
                stop.unlink()
            time.sleep(POLL_SECONDS)
        (self.folder / f"{name}.task").unlink()
        os.close(lock)
        os._exit(0)

    def _take_slot(self) -> tuple[int, int]:
        """Wait for a slot; return its number and its locked file."""
        while True:
            for number in range(SLOTS):
                lock = os.open(self.folder / f"slot{number}", os.O_RDWR | os.O_CREAT)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return number, lock
                except BlockingIOError:
                    os.close(lock)
            time.sleep(POLL_SECONDS)
