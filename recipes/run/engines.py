"""Owns where runs go. `LocalSlots` starts each as a process of this machine; others need the same members."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from recipes.run.forkserver import WarmProcess, WarmServer
from recipes.run.states import LOG, acquire
from recipes.study.specification import REPOSITORY

SINGLE_PROCESS = ("--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no")
"""What `accelerate launch` is told unless the caller says otherwise; `train.precision` decides the precision."""


@dataclass(frozen=True)
class Job:
    """A run to start: module of the stage, its arguments, and the run's folder (which holds its log and its lock)."""

    module: str
    arguments: tuple[str, ...]
    folder: Path


class Engine(Protocol):
    """Where runs go: a number of slots, and jobs that start and end in them."""

    slots: int

    def start(self, job: Job) -> bool:
        """Start `job` in a free slot; return False where another process works in its folder."""

    def ended(self) -> list[tuple[Job, int]]:
        """Return the jobs that ended since the last call, with their exit codes."""

    def stop(self, grace_seconds: float) -> None:
        """End every job: ask, wait up to `grace_seconds` for checkpoints to be written, then kill."""


PRELOADED = (
    "pretrain.train",
    "finetune.train",
    "common.evaluation.linear_run",
    "common.evaluation.token_similarity_run",
)
"""What the process that runs are forked from imports, by name: the study itself knows of a stage only its config."""


WAITING = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
"""Environment variables by which users say how OpenMP's threads wait."""


def warm_server(slots: int) -> WarmServer:
    """Return what forks runs of this machine's slots; it starts with the first run."""
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *SINGLE_PROCESS,
        "-m",
        "recipes.run.forkserver",
        *PRELOADED,
    ]
    return WarmServer(command, slot_variables(0, slots, ()))


CommandBuilder = Callable[[Job], list[str]]


def accelerate_command(launch: tuple[str, ...] = SINGLE_PROCESS) -> CommandBuilder:
    """Return what turns a job into `accelerate launch <launch> -m <module> <arguments>`."""
    start = [sys.executable, "-m", "accelerate.commands.launch", *launch, "-m"]
    return lambda job: [*start, job.module, *job.arguments]


@dataclass
class _Slot:
    """A place for one job, with the variables of its processes."""

    variables: Mapping[str, str]
    job: Job | None = None
    process: subprocess.Popen[bytes] | WarmProcess | None = None


@dataclass
class LocalSlots:
    """Slots of this machine. The cores, and the GPUs where there are any, are shared out among the slots.

    Every job leads a process group of its own, so that a signal reaches the launcher and all it started.
    """

    slots: int
    command: CommandBuilder
    devices: tuple[str, ...] = ()
    warm: WarmServer | None = None
    """Where runs are forked from; None starts each by `command`, from nothing."""
    _places: list[_Slot] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Prepare the slots."""
        self._places = [_Slot(slot_variables(number, self.slots, self.devices)) for number in range(self.slots)]

    def start(self, job: Job) -> bool:
        """Start `job` in a free slot; return False where another process works in its folder."""
        slot = next(slot for slot in self._places if slot.job is None)
        lock = acquire(job.folder)
        if lock is None:
            return False
        command = self.command(job)
        try:
            with (job.folder / LOG).open("ab") as log:
                log.write(f"$ {' '.join(command)}\n".encode())
                log.flush()
                if self.warm is not None:
                    slot.process = self.warm.start(job.module, job.arguments, slot.variables, log.fileno(), lock)
                else:
                    slot.process = _popen(command, slot.variables, log.fileno(), lock)
        finally:
            os.close(lock)  # the job holds it from here on
        slot.job = job
        return True

    def ended(self) -> list[tuple[Job, int]]:
        """Return the jobs that ended since the last call, with their exit codes."""
        gone = []
        for slot in self._places:
            code = slot.process.poll() if slot.process else None
            if slot.job and code is not None:
                gone.append((slot.job, code))
                slot.job = slot.process = None
        return gone

    def stop(self, grace_seconds: float) -> None:
        """End every job: ask, wait up to `grace_seconds` for checkpoints to be written, then kill."""
        groups = {slot.process.pid: slot.process for slot in self._places if slot.process}
        for number, wait in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
            for group in groups:
                _signal_group(group, number)
            deadline = time.monotonic() + wait
            while any(_is_alive(group, process) for group, process in groups.items()) and time.monotonic() < deadline:
                time.sleep(0.05)


def _popen(command: list[str], variables: Mapping[str, str], log: int, lock: int) -> subprocess.Popen[bytes]:
    """Start a command as the leader of a process group, with its output to `log`; it holds `lock` as long as it lives."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **variables},
        start_new_session=True,
        pass_fds=(lock,),
    )


def slot_variables(number: int, slots: int, devices: tuple[str, ...]) -> dict[str, str]:
    """Return the environment of slot `number`: its share of the cores, and of the GPUs where slots share them.

    OpenMP's threads wait for one another asleep, unless the user says otherwise. By default they wait awake, and one whose
    core does something else (a loader's worker, another program) holds up all: short steps then took 6 to 15 times as long.
    """
    threads = str(max(1, available_cores() // slots))
    path = os.pathsep.join(part for part in (str(REPOSITORY), os.environ.get("PYTHONPATH", "")) if part)
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    if not WAITING & os.environ.keys():
        variables["OMP_WAIT_POLICY"] = "passive"
    if devices and slots > 1:
        first, last = number * len(devices) // slots, (number + 1) * len(devices) // slots
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(devices[first : max(last, first + 1)])
    return variables


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_devices() -> tuple[str, ...]:
    """Return the names of the GPUs that runs may use, without importing torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return tuple(name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1"))
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    listing = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False).stdout
    return tuple(str(number) for number, _ in enumerate(line for line in listing.splitlines() if line[:3] == "GPU"))


def default_jobs(devices: tuple[str, ...]) -> int:
    """Return how many runs go at once: one for each GPU, otherwise one for each core and eight at most."""
    return len(devices) or min(available_cores(), 8)


def _signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a job's processes, if any are left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _is_alive(group: int, process: subprocess.Popen[bytes] | WarmProcess) -> bool:
    """Tell whether any process of a job is left; its leader is reaped on the way."""
    process.poll()
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
