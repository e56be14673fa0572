"""Runs of a stage in separate processes, with faults (kill, signal, full disk, ...) injected at a chosen moment.

The processes are forked from a server that has imported everything once, so a run takes one second instead of ten. The processes
of a distributed run find each other as under a launcher, by RANK, WORLD_SIZE and MASTER_PORT.
"""

import errno
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from conftest import COMMANDS, RECIPES, TINY

from common.command import INTERRUPTED_TWICE

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "pretrain.train",
        "finetune.train",
        "common.evaluation.linear_run",
        "conftest",
        "sklearn.datasets",
        "timm",
        "datasets",
    ]
)
TIMEOUT_SECONDS = 240.0
LIMIT_BYTES = 50_000
"""Maximum file size on a "full disk": smaller than a checkpoint, larger than a log."""


@dataclass(frozen=True)
class Fault:
    """A fault of one process of a run, at the `count`-th occurrence of `where` in that process, counted from 1."""

    where: Literal[
        "step", "line", "half a file", "flush", "read", "exists", "result", "folder", "perturbed", "batch", "duplicates"
    ]
    """After a step; before a line of metrics.jsonl; with half of a checkpoint's tensors written; before the fsync of a file or the
    folder of a checkpoint; when a checkpoint is read, when the run folder is checked for a file, when the result is read, when the
    folder is compared with what other processes see; between SAM's two passes, with perturbed weights; when a batch is read;
    before the images are compared."""
    count: int
    what: str = "SIGKILL"
    """A signal to the process; "group SIGTERM": a signal to it and its workers; "full disk": no file can grow beyond `LIMIT_BYTES`,
    the rest of a write fails; "no space", "stale handle": the call itself fails; "damage": the checkpoint is damaged;
    "another disk": the file or folder is looked for where there is none; "SIGTERM in a hang": the process gets the signal in a call
    that never returns."""
    rank: int = 0


def fork_run(
    name: str,
    out: Path,
    *overrides: str,
    faults: Iterable[Fault] = (),
    processes: int = 1,
    record_samples: bool = False,
    recipe: Path | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a stage like the fixture `stage`, in `processes` new processes; return the first nonzero exit code, or 0.

    A negative code is a signal. If one process is killed by SIGKILL, the others are killed, as a launcher does. With
    `record_samples` the samples drawn by each process are written next to the run folder. `environment` is added to a launcher's.
    """
    module, *words = COMMANDS[name]
    arguments = [*words, str(recipe or RECIPES / "digits" / f"{name}.yaml"), *TINY[name], f"out={out}", *overrides]
    launcher = _launcher_environment(processes)
    started = []
    for rank in range(processes):
        own_faults = [fault for fault in faults if fault.rank == rank]
        log = out.with_name(f"{out.name}-{rank}.log")
        recorded = out if record_samples else None
        started.append(_start(module, arguments, own_faults, rank, {**launcher, **environment}, log, recorded))
    return _wait(started)


def start_fork(module: str, arguments: Sequence[str], log: Path) -> ForkServerProcess:
    """Start a stage's command with its output in `log`; return its process."""
    return _start(module, list(arguments), [], 0, {}, log, None)


def _start(*arguments: Any) -> ForkServerProcess:
    """Start `_run_process` in a new process."""
    process = SERVER.Process(target=_run_process, args=arguments)
    process.start()
    return process


def _launcher_environment(processes: int) -> dict[str, str]:
    """Return the environment that a launcher sets for every process; empty for one process."""
    if processes == 1:
        return {}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {"WORLD_SIZE": str(processes), "ACCELERATE_USE_CPU": "true", **address}


def read_log(out: Path, rank: int = 0) -> str:
    """Return the output of a process of the last run."""
    return out.with_name(f"{out.name}-{rank}.log").read_text()


def _wait(started: Sequence[ForkServerProcess]) -> int:
    """Wait for all processes; return SIGKILL's code if one was killed, else the largest exit code."""
    multiprocessing.connection.wait([process.sentinel for process in started], TIMEOUT_SECONDS)
    if any(process.exitcode == -signal.SIGKILL for process in started):
        for process in started:
            process.kill()
    for process in started:
        process.join(TIMEOUT_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError("a process of the run did not exit")
    codes = [process.exitcode or 0 for process in started]
    return -signal.SIGKILL if -signal.SIGKILL in codes else max(codes)


def _run_process(
    module: str,
    arguments: list[str],
    faults: list[Fault],
    rank: int,
    environment: dict[str, str],
    log: Path,
    samples: Path | None,
) -> None:
    """Run the stage in this process; never returns."""
    import torch

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.setpgid(0, 0)
    multiprocessing.set_start_method("fork", force=True)  # for the loader's workers, which would inherit the server's
    torch.set_num_threads(1)
    if environment:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), **environment}
    for fault in faults:
        _install_fault(fault)
    if samples is not None:
        _record_samples(samples.with_name(f"{samples.name}-{rank}.samples"))
    main: Callable[[list[str]], int] = __import__(f"{module}.__main__", fromlist=["main"]).main
    code = main(arguments)
    if code != INTERRUPTED_TWICE:  # gloo's threads could abort the process at its exit
        assert not torch.distributed.is_initialized(), "the process has not left its process group"
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _install_fault(fault: Fault) -> None:
    """Install a fault, to be triggered at its moment."""
    import finetune.train
    from common import checkpoint_files
    from common.data.loading import loader
    from common.training import checkpoints, open_images, run, run_folder
    from common.training.progress import Progress
    from common.training.run_folder import RunFolder

    owner, attribute = {
        "step": (Progress, "advance"),
        "line": (RunFolder, "log"),
        "half a file": (checkpoint_files, "write_tensors"),
        "flush": (checkpoint_files, "fsync"),
        "read": (checkpoints, "read_checkpoint"),
        "exists": (run_folder, "path_exists"),
        "result": (RunFolder, "result"),
        "folder": (run, "describe_folder"),
        "perturbed": (finetune.train, "frozen_statistics"),
        "duplicates": (open_images, "find_duplicates"),
        "batch": (loader._BatchDataset, "__getitems__"),
    }[fault.where]
    original, calls = getattr(owner, attribute), 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != fault.count:
            return original(*arguments)
        if fault.where == "step":
            original(*arguments)
        if fault.what == "another disk":
            return original(arguments[0].with_name("elsewhere"), *arguments[1:])
        if fault.where == "half a file":
            original(*arguments)
            os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)
        _trigger(fault.what)
        return None if fault.where == "step" else original(*arguments)

    setattr(owner, attribute, counted)


def _trigger(what: str) -> None:
    """Trigger a fault in this process."""
    if what == "full disk":
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    elif what == "no space":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif what == "stale handle":
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    elif what == "damage":
        from common.checkpoint_files import DamagedError

        raise DamagedError("damaged by a test fault")
    elif what == "SIGTERM in a hang":
        from common.training import signals

        signals.WAIT_SECONDS = 0.5
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)
    elif what.startswith("group "):
        os.killpg(0, getattr(signal, what.removeprefix("group ")))
    else:
        os.kill(os.getpid(), getattr(signal, what))


def _record_samples(path: Path) -> None:
    """Record every training sample drawn by this process."""
    from common.data.loading.sampler import EpochSampler

    original = EpochSampler.batches

    def recorded(self: EpochSampler, epoch: int, first_step: int = 0) -> Any:
        for batch in original(self, epoch, first_step):
            with path.open("a") as file:
                file.writelines(f"{key.epoch} {key.position} {key.index} {key.repeat}\n" for key in batch)
            yield batch

    EpochSampler.batches = recorded
