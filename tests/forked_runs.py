"""Runs of a stage in processes of their own, which may die, be signalled or meet a full disk at a chosen moment.

They are forked from a server that has imported everything once, so a run costs a second and not ten. Several processes of
one run find each other as under a launcher: by RANK, WORLD_SIZE and MASTER_PORT.
"""

import errno
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Literal

from conftest import COMMANDS, RECIPES, TINY

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
"""Size beyond which no file grows on a "full disk": less than a checkpoint's, more than a log's."""


@dataclass(frozen=True)
class Fault:
    """What happens to one process of a run, the `count`-th time that it comes by, counted from 1 in each process."""

    where: Literal["step", "line", "half a file", "flush", "read", "look", "result", "climbed"]
    """After a step; before a line of metrics.jsonl; with half of a checkpoint's tensors written; before a file, or the folder, of
    a checkpoint is flushed; when a checkpoint is read, or something in the run folder is looked for, or the result is read;
    between SAM's two passes, when the weights are elsewhere."""
    count: int
    what: str = "SIGKILL"
    """A signal to the process; "group SIGTERM": a signal to it and its workers; "full disk": no file can
    grow beyond `LIMIT_BYTES`, the rest of a write is refused; "no space", "stale handle": the very call is refused;
    "damage": the checkpoint is."""
    rank: int = 0


def run(
    name: str, out: Path, *overrides: str, faults: Iterable[Fault] = (), processes: int = 1, keys: bool = False
) -> int:
    """Run a stage as `stage` of conftest does, in `processes` new processes; return the exit code of the first.

    A negative one is a signal's. When one process dies by SIGKILL, the others are killed, as a launcher does. With `keys`
    the samples that each process drew are written beside the run folder.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    module, *words = COMMANDS[name]
    arguments = [*words, str(RECIPES / "digits" / f"{name}.yaml"), *TINY[name], f"out={out}", *overrides]
    started = []
    for rank in range(processes):
        mine = [fault for fault in faults if fault.rank == rank]
        log = out.with_name(f"{out.name}-{rank}.log")
        process = SERVER.Process(
            target=_become, args=(module, arguments, mine, rank, processes, port, log, out if keys else None)
        )
        process.start()
        started.append(process)
    return _wait(started)


def log(out: Path, rank: int = 0) -> str:
    """Return what a process of the last run said."""
    return out.with_name(f"{out.name}-{rank}.log").read_text()


def _wait(started: Sequence[ForkServerProcess]) -> int:
    """Wait for all; return the first exit code that is not 0, a kill's before others."""
    multiprocessing.connection.wait([process.sentinel for process in started], TIMEOUT_SECONDS)
    if any(process.exitcode == -signal.SIGKILL for process in started):
        for process in started:
            process.kill()
    for process in started:
        process.join(TIMEOUT_SECONDS)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError("a process of the run does not end")
    codes = [process.exitcode or 0 for process in started]
    return -signal.SIGKILL if -signal.SIGKILL in codes else max(codes)


def _become(
    module: str,
    arguments: list[str],
    faults: list[Fault],
    rank: int,
    processes: int,
    port: int,
    log: Path,
    keys: Path | None,
) -> None:
    """Be a process of a run; never returns."""
    import torch

    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.setpgid(0, 0)
    multiprocessing.set_start_method("fork", force=True)  # of the loader's workers; inherited would be the server's
    torch.set_num_threads(1)
    if processes > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(processes),
            "ACCELERATE_USE_CPU": "true",
        }
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for fault in faults:
        _arrange(fault)
    if keys is not None:
        _record_keys(keys.with_name(f"{keys.name}-{rank}.keys"))
    main: Callable[[list[str]], int] = __import__(f"{module}.__main__", fromlist=["main"]).main
    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _arrange(fault: Fault) -> None:
    """Let a fault happen when its moment comes."""
    import finetune.train
    from common.training import checkpoints, run_folder
    from common.training.progress import Progress
    from common.training.run_folder import RunFolder

    owner, attribute = {
        "step": (Progress, "advance"),
        "line": (RunFolder, "log"),
        "half a file": (checkpoints, "write_tensors"),
        "flush": (checkpoints, "flush"),
        "read": (checkpoints, "_read"),
        "look": (run_folder, "is_there"),
        "result": (RunFolder, "result"),
        "climbed": (finetune.train, "frozen_statistics"),
    }[fault.where]
    usual, calls = getattr(owner, attribute), 0

    def counted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != fault.count:
            return usual(*arguments)
        if fault.where == "step":
            usual(*arguments)
        if fault.where == "half a file":
            usual(*arguments)
            os.truncate(arguments[1], os.path.getsize(arguments[1]) // 2)
        _strike(fault.what)
        return None if fault.where == "step" else usual(*arguments)

    setattr(owner, attribute, counted)


def _strike(what: str) -> None:
    """Do to this process what a fault says."""
    if what == "full disk":
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    elif what == "no space":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif what == "stale handle":
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
    elif what == "damage":
        from common.training.checkpoints import DamagedError

        raise DamagedError("by a fault of the test")
    elif what.startswith("group "):
        os.killpg(0, getattr(signal, what.removeprefix("group ")))
    else:
        os.kill(os.getpid(), getattr(signal, what))


def _record_keys(path: Path) -> None:
    """Write down every sample that this process draws for training."""
    from common.data.loading.sampler import EpochSampler

    usual = EpochSampler.batches

    def recorded(self: EpochSampler, epoch: int, first_step: int = 0) -> Any:
        for batch in usual(self, epoch, first_step):
            with path.open("a") as file:
                file.writelines(f"{key.epoch} {key.position} {key.index} {key.repeat}\n" for key in batch)
            yield batch

    EpochSampler.batches = recorded
