"""Engine of this machine: `LocalSlots` starts a process for each run."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from common.cores import available_cores
from common.files import naming
from common.surroundings import INTERRUPTED
from common.visible_gpus import gpus_named
from recipes.run.attempts import describe_exit
from recipes.run.engine import Job, JobEnd
from recipes.run.environment import run_environment
from recipes.run.forkserver import ForkedProcess, Forkserver
from recipes.run.launching import SINGLE_PROCESS
from recipes.run.states import LOG, lock_run_folder, note_end
from recipes.stages import preload_modules


def build_forkserver(slots: int, launch: tuple[str, ...] = SINGLE_PROCESS) -> Forkserver:
    """Return the forkserver for runs in this machine's slots; its process starts with the first run, by `accelerate launch`."""
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        *launch,
        "-m",
        "recipes.run.forkserver",
        *preload_modules(),
    ]
    return Forkserver(command, slot_environment(0, slots, ()))


CommandBuilder = Callable[[Job], list[str]]


def accelerate_command(launch: tuple[str, ...] = SINGLE_PROCESS) -> CommandBuilder:
    """Return a function that builds a job's command: `accelerate launch <launch> -m <module> <arguments>`, with exit codes."""
    start = [sys.executable, "-m", "common.launch", *launch, "-m"]
    return lambda job: [*start, job.module, *job.arguments]


@dataclass
class _Slot:
    """Slot for one job at a time, with the environment variables of its processes."""

    environment: Mapping[str, str]
    job: Job | None = None
    process: subprocess.Popen[bytes] | ForkedProcess | None = None


@dataclass
class LocalSlots:
    """Engine of this machine. Its cores, and its GPUs if there are any, are divided among the slots.

    Every job leads its own process group, so that a signal reaches the launcher and all of its processes.
    """

    slots: int
    command: CommandBuilder
    devices: tuple[str, ...] = ()
    forkserver: Forkserver | None = None
    """Forks the runs; None: each run is a new process, started by `command`."""
    processes: int = 1
    """Processes of each run, which share the slot's cores."""
    has_queue: bool = False
    _slots: list[_Slot] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Create the slots."""
        shares = (
            slot_environment(number, self.slots, self.devices, processes=self.processes) for number in range(self.slots)
        )
        self._slots = [_Slot(share) for share in shares]

    def start(self, jobs: Iterable[Job]) -> list[tuple[Job, bool]]:
        """Start jobs while slots are free; return those that were taken, with False for one whose folder is in use."""
        taken: list[tuple[Job, bool]] = []
        remaining = iter(jobs)
        while slot := next((slot for slot in self._slots if slot.job is None), None):
            job = next(remaining, None)
            if job is None:
                break
            taken.append((job, self._start(job, slot)))
        return taken

    def _start(self, job: Job, slot: _Slot) -> bool:
        """Start `job` in a free slot; return False if another process uses its folder."""
        lock = lock_run_folder(job.folder)
        if lock is None:
            return False
        command = self.command(job)
        try:
            with (job.folder / LOG).open("ab", buffering=0) as log:
                with naming(job.folder / LOG):
                    log.write(f"$ {shlex.join(command)}\n".encode(errors="surrogateescape"))
                if self.forkserver is not None:
                    slot.process = self.forkserver.start(
                        job.module, job.arguments, slot.environment, log.fileno(), lock
                    )
                else:
                    slot.process = _popen(command, slot.environment, log.fileno(), lock)
        finally:
            os.close(lock)  # the job has inherited it
        slot.job = job
        return True

    def finished(self) -> list[JobEnd]:
        """Return the jobs that ended since the last call, with their exit codes."""
        ends = []
        for slot in self._slots:
            code = slot.process.poll() if slot.process else None
            if slot.job and code is not None:
                ends.append(JobEnd(slot.job, describe_exit(code)))
                if code not in (0, INTERRUPTED):
                    note_end(slot.job.folder, describe_exit(code))
                slot.job = slot.process = None
        return ends

    def stop(self, grace_seconds: float) -> None:
        """Stop every job: SIGTERM, up to `grace_seconds` to write checkpoints, then SIGKILL."""
        groups = {slot.process.pid: slot.process for slot in self._slots if slot.process}
        for number, wait in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
            for group in groups:
                _signal_group(group, number)
            deadline = time.monotonic() + wait
            while any(_is_alive(group, process) for group, process in groups.items()) and time.monotonic() < deadline:
                time.sleep(0.05)


def _popen(command: list[str], environment: Mapping[str, str], log: int, lock: int) -> subprocess.Popen[bytes]:
    """Start a command as the leader of a process group, with its output to `log`; it inherits `lock`."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        start_new_session=True,
        pass_fds=(lock,),
    )


def slot_environment(number: int, slots: int, devices: tuple[str, ...], *, processes: int = 1) -> dict[str, str]:
    """Return the environment variables of slot `number`: its part of the cores, and of the GPUs if there are several slots.

    The `processes` of a run divide the slot's cores.
    """
    variables = run_environment(max(1, available_cores() // (slots * processes)))
    if devices and slots > 1:
        first, last = number * len(devices) // slots, (number + 1) * len(devices) // slots
        variables["CUDA_VISIBLE_DEVICES"] = ",".join(devices[first : max(last, first + 1)])
    return variables


def visible_devices() -> tuple[str, ...]:
    """Return the ids of the GPUs that runs may use; does not import torch."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return gpus_named(os.environ["CUDA_VISIBLE_DEVICES"])
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    listing = subprocess.run([tool, "-L"], capture_output=True, text=True, check=False).stdout
    return tuple(str(number) for number, _ in enumerate(line for line in listing.splitlines() if line[:3] == "GPU"))


def default_jobs(devices: tuple[str, ...]) -> int:
    """Return the default number of parallel runs: one per GPU; without a GPU one per core, at most eight."""
    return len(devices) or min(available_cores(), 8)


def _signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a job's process group, if it still exists."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _is_alive(group: int, process: subprocess.Popen[bytes] | ForkedProcess) -> bool:
    """Return whether any process of a job is alive."""
    process.poll()  # reaps the leader: a zombie would count as alive
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
