"""Kill runs at random moments (SIGKILL), or let their reads fail at random, and compare their results bitwise.

`python -m benchmarks.kills --kills 100 --read-errors 100`. A moment is an amount of CPU time, so that the same code is hit on a
busy machine: start-up, reading a checkpoint, steps, writes. A read error is one of EACCES, ESTALE, ENODEV, EIO, EMFILE and
ENOLCK, in any call that opens, lists, stats, reads or maps something in the run folder (`failing_reads.c`, preloaded; needs a C
compiler). A run with read errors may also be killed before it has recovered; otherwise it ends on its own, successfully or with
one message and exit code 2. After each attempt all milestones and the newest checkpoints must still be intact. A run that ends
before all faults are used is compared, and another one is started.

`--processes 2`: a fault hits one process of the run, drawn at random. If it is killed, the others get SIGTERM, as from a launcher,
and must end within 30 seconds.
"""

import argparse
import ctypes
import hashlib
import json
import multiprocessing
import multiprocessing.connection
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from common.checkpoint_files import MILESTONE, SUMS, checkpoint_paths
from common.command import USER_ERROR

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pretrain.train", "finetune.train", "sklearn.datasets", "timm", "datasets"])
RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "digits"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KEPT = 2
END_SECONDS = 30.0
"""Time in which the other processes of a run must end after SIGTERM."""
COMMON = [
    "data.images_per_class=8", "train.batch_size=20", "train.log_every=3", "train.checkpoint_steps=5", "optim.warmup_epochs=1",
    "model.stem=conv", "model.drop_path=0.2", "data.workers=0", "train.keep_every_epochs=3", f"train.keep_checkpoints={KEPT}",
]  # fmt: skip
RUNS = {
    "pretrain": [
        *COMMON, "train.epochs=40", "dino.out_dim=16", "dino.hidden_dim=16", "dino.bottleneck_dim=8", "crops.num_local=1",
        "crops.local_size=8", "dino.centering=mean", "dino.freeze_last_layer_epochs=1", "knn.every_epochs=10",
    ],
    "finetune": [
        *COMMON, "train.epochs=40", "optim.name=sam", "augment.mixup=0.8", "augment.cutmix=1.0", "augment.aug_repeats=2",
        "ema_decay=0.9", "train.evaluate_every=10",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """Faults injected into one attempt."""

    seconds: float
    """CPU seconds until the kill."""
    one_in: int = 0
    """One in so many reads fails; 0 = none."""
    seed: int = 0
    rank: int = 0
    """The process that it hits."""


def main() -> None:
    """Inject faults, compare the results, and print the counts and the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="number of kills over all stages")
    parser.add_argument(
        "--read-errors", type=int, default=0, help="number of attempts that end with a read error over all stages"
    )
    parser.add_argument(
        "--stages", nargs="+", choices=list(RUNS), default=list(RUNS), help="which stages; default: both"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="maximum CPU seconds of a process")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--processes", type=int, default=1, help="processes of each run")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the thread of the backward pass, too
    draw, started = random.Random(options.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if options.read_errors:
            preload_failing_reads(Path(folder))
        for name in options.stages:
            goal = {
                "kill": options.kills // len(options.stages),
                "read errors": options.read_errors // len(options.stages),
            }
            done, finished = stress_stage(
                name, Path(folder) / name, goal, options.seconds, draw, processes=options.processes
            )
            print(
                f"{name}: {done['kill']} kills, {done['read errors']} attempts ended with a read error, {finished} runs finished,"
                f" all bitwise equal, no intact checkpoint lost, {options.processes} processes;"
                f" {time.monotonic() - started:.0f} s since the start",
                flush=True,
            )


def preload_failing_reads(folder: Path) -> None:
    """Build the library and preload it into every process started from now on; exit if there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("--read-errors: needs a C compiler (Debian: apt install gcc)")
    library = folder / "failing_reads.so"
    source = Path(__file__).with_name("failing_reads.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"], check=True)
    os.environ["LD_PRELOAD"] = str(library)


def stress_stage(
    name: str,
    folder: Path,
    goal: dict[str, int],
    max_seconds: float,
    draw: random.Random,
    *,
    processes: int = 1,
) -> tuple[dict[str, int], int]:
    """Test a stage until each kind of fault has ended its number of attempts; return the counts and the number of finished runs."""
    folder.mkdir()
    reference, out, finished = folder / "reference", folder / "run-0", 0
    assert wait(start(name, reference, None, processes), None) == 0
    expected, done = contents(reference), dict.fromkeys(goal, 0)
    while True:
        remaining = [kind for kind, count in goal.items() if done[kind] < count]
        fault = draw_fault(draw.choice(remaining), max_seconds, draw, processes) if remaining else None
        before = intact_checkpoints(out)
        code = wait(start(name, out, fault, processes), fault)
        check_nothing_lost(before, intact_checkpoints(out), out)
        if code != 0:
            assert fault is not None, f"{name}: exit code {code} of a run without faults"
            stderr = "".join((folder / f"errors-{rank}.log").read_text() for rank in range(processes))
            assert code in (-signal.SIGKILL, USER_ERROR if fault.one_in else -signal.SIGKILL), (
                f"exit code {code}\n{stderr}"
            )
            messages = [line for line in stderr.splitlines() if "error: " in line]
            assert code != USER_ERROR or (1 <= len(messages) <= processes and "Traceback" not in stderr), stderr
            done["read errors" if code == USER_ERROR else "kill"] += 1
            print(f"  {name}: {done}, {finished} runs finished", file=sys.stderr, flush=True)
            continue
        assert contents(out) == expected, f"{name}: {out} differs after {done}"
        finished += 1
        if not remaining:
            return done, finished
        out = folder / f"run-{finished}"


def draw_fault(kind: str, max_seconds: float, draw: random.Random, processes: int) -> Fault:
    """Return a fault of a kind at a random moment; read errors have a random frequency and a later kill."""
    rank = draw.randrange(processes) if processes > 1 else 0
    if kind == "kill":
        return Fault(draw.uniform(0, max_seconds), rank=rank)
    seconds, one_in = draw.uniform(0, 2 * max_seconds), round(10 ** draw.uniform(1.5, 3.3))
    return Fault(seconds, one_in=one_in, seed=draw.randrange(2**32), rank=rank)


def intact_checkpoints(out: Path) -> dict[int, bool]:
    """Return the steps of a run's intact checkpoints, each with whether it is a milestone."""
    intact = {}
    for step, path in checkpoint_paths(out / "checkpoints").items():
        sums = dict(reversed(line.split("  ")) for line in (path / SUMS).read_text().splitlines())
        if all(hashlib.sha256((path / file).read_bytes()).hexdigest() == digest for file, digest in sums.items()):
            intact[step] = (path / MILESTONE).exists()
    return intact


def check_nothing_lost(before: dict[int, bool], after: dict[int, bool], out: Path) -> None:
    """Fail if a milestone was removed, or one of the latest checkpoints without enough newer ones replacing it."""
    for step in before.keys() - after.keys():
        newer = [other for other, is_milestone in after.items() if other > step and not is_milestone]
        assert not before[step], f"{out}: the milestone of step {step} is lost"
        assert len(newer) >= KEPT, f"{out}: step {step} was removed, only {newer} are newer"
    damaged = set(checkpoint_paths(out / "checkpoints")) - set(after)
    assert not damaged, f"{out}: the checkpoints {damaged} are damaged"


def start(name: str, out: Path, fault: Fault | None, processes: int) -> list[ForkServerProcess]:
    """Start the processes of a run."""
    arguments = [str(RECIPES / f"{name}.yaml"), *RUNS[name], f"out={out}"]
    environment = {}
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        environment = {"WORLD_SIZE": str(processes), "ACCELERATE_USE_CPU": "true", **address}
    started = []
    for rank in range(processes):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), **environment} if environment else {}
        process = SERVER.Process(target=_run, args=(name, arguments, out, fault, rank, own))
        process.start()
        started.append(process)
    return started


def wait(processes: list[ForkServerProcess], fault: Fault | None) -> int:
    """Wait for a run, or kill a process of it at the fault's moment; return its exit code: that of the process that ended first."""
    if fault is not None:
        hit = processes[fault.rank]
        while all(process.is_alive() for process in processes) and _cpu_seconds(hit.pid or 0) < fault.seconds:
            time.sleep(0.002)
        if all(process.is_alive() for process in processes):
            hit.kill()
    first = multiprocessing.connection.wait([process.sentinel for process in processes])
    code = next(process for process in processes if process.sentinel in first).exitcode
    if code != 0:
        end_others(processes)
    for process in processes:
        process.join()
    codes = [process.exitcode or 0 for process in processes]
    return -signal.SIGKILL if -signal.SIGKILL in codes else code if code is not None else max(codes)


def end_others(processes: list[ForkServerProcess]) -> None:
    """Send SIGTERM to the processes that are left, as a launcher does; fail if one does not end."""
    time.sleep(0.2)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(END_SECONDS)
        assert process.exitcode is not None, f"a process did not end {END_SECONDS:.0f} s after SIGTERM"


def contents(out: Path) -> dict[str, object]:
    """Return the results of a run that do not depend on time: weights, moments, teacher, center; metrics; the export."""
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    paths = [newest / "state.safetensors", out / "metrics.jsonl", *sorted((out / "export").glob("[!.]*"))]
    files: dict[str, object] = {path.name: path.read_bytes() for path in paths}
    return files | {"metrics": json.loads((out / "result.json").read_text())["metrics"]}


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _run(
    name: str, arguments: list[str], out: Path, fault: Fault | None, rank: int, environment: dict[str, str]
) -> None:
    """Run a stage in this process with its output discarded; with a fault, stderr goes to errors-<rank>.log."""
    import importlib

    import torch

    torch.set_num_threads(1)
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if fault is not None:
        os.dup2(os.open(out.with_name(f"errors-{rank}.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    main = importlib.import_module(f"{name}.__main__").main
    if fault is not None and fault.one_in and fault.rank == rank:
        ctypes.CDLL(None).failing_reads(ctypes.c_uint64(fault.seed), fault.one_in, str(out).encode())
    code = main(arguments)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
