"""Kill runs at random moments (SIGKILL), or let their reads fail at random, and compare what they end with, bit by bit.

`python -m benchmarks.kills --kills 100 --read-errors 100`. A moment is an amount of processor time, so that a busy machine hits
the same places: start-up, reading a checkpoint, steps, writes. A read error is one of EACCES, ESTALE, ENODEV, EIO, EMFILE and
ENOLCK, in any call that opens, lists, looks at, reads or maps something in the run folder (`failing_reads.c`, preloaded; it
takes a C compiler). A run with read errors may be killed as well, before it has made good what it lost; else it ends by itself:
well, or with one message and exit code 2. After each attempt every milestone and the newest checkpoints are still whole. A run
that ends before the faults are used up is compared, and begun again.
"""

import argparse
import ctypes
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from common.command import USER_ERROR
from common.training.checkpoints import MILESTONE, SUMS, checkpoint_paths

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["pretrain.train", "finetune.train", "sklearn.datasets", "timm", "datasets"])
RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "digits"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
KEPT = 2
COMMON = [
    "data.images_per_class=8", "train.batch_size=20", "train.log_every=3", "train.checkpoint_steps=5", "optim.warmup_epochs=1",
    "model.stem=conv", "model.drop_path=0.2", "data.workers=0", "train.milestone_epochs=3", f"train.keep_checkpoints={KEPT}",
]  # fmt: skip
RUNS = {
    "pretrain": [
        *COMMON, "train.epochs=40", "dino.outputs=16", "dino.hidden_dim=16", "dino.bottleneck_dim=8", "views.local_count=1",
        "views.local_size=8", "dino.centering=mean", "dino.freeze_last_layer_epochs=1", "knn.every_epochs=10",
    ],
    "finetune": [
        *COMMON, "train.epochs=40", "optim.name=sam", "augment.mixup=0.8", "augment.cutmix=1.0", "augment.repeats=2",
        "ema_decay=0.9", "train.evaluate_every=10",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What happens to one attempt."""

    seconds: float
    """Processor seconds to the kill."""
    one_in: int = 0
    """Calls that read, of which one fails; 0: none."""
    seed: int = 0


def main() -> None:
    """Kill, let fail, compare and print the counts and the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="kills over all stages together")
    parser.add_argument("--read-errors", type=int, default=0, help="attempts that end by a read error, likewise")
    parser.add_argument(
        "--stages", nargs="+", choices=list(RUNS), default=list(RUNS), help="which stages; both by default"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="longest life of a process, in processor seconds")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    options = parser.parse_args()
    draw, began = random.Random(options.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if options.read_errors:
            preload_failing_reads(Path(folder))
        for name in options.stages:
            wanted = {
                "kill": options.kills // len(options.stages),
                "read errors": options.read_errors // len(options.stages),
            }
            done, ends = strike_stage(name, Path(folder) / name, wanted, options.seconds, draw)
            print(
                f"{name}: {done['kill']} kills, {done['read errors']} attempts ended by a read error, {ends} runs to the end, all"
                f" bit-equal, nothing whole lost; {time.monotonic() - began:.0f} s since the start",
                flush=True,
            )


def preload_failing_reads(folder: Path) -> None:
    """Build the library and have every process started from now on load it; SystemExit where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit("--read-errors: needs a C compiler (Debian: apt install gcc)")
    library = folder / "failing_reads.so"
    source = Path(__file__).with_name("failing_reads.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", str(source), "-o", str(library), "-ldl"], check=True)
    os.environ["LD_PRELOAD"] = str(library)


def strike_stage(
    name: str, folder: Path, wanted: dict[str, int], longest: float, draw: random.Random
) -> tuple[dict[str, int], int]:
    """Strike runs of a stage until each kind of fault has ended so many; return the counts, and the runs that came to their end."""
    folder.mkdir()
    whole, parts, ends = folder / "whole", folder / "parts-0", 0
    assert wait(start(name, whole, None), None) == 0
    expected, done = contents(whole), dict.fromkeys(wanted, 0)
    while True:
        left = [kind for kind, count in wanted.items() if done[kind] < count]
        fault = draw_fault(draw.choice(left), longest, draw) if left else None
        before = whole_checkpoints(parts)
        code = wait(start(name, parts, fault), fault)
        check_nothing_lost(before, whole_checkpoints(parts), parts)
        if code != 0:
            assert fault is not None, f"{name}: exit code {code} of a run that nothing happened to"
            told = (folder / "errors.log").read_text()
            assert code in (-signal.SIGKILL, USER_ERROR if fault.one_in else -signal.SIGKILL), (
                f"exit code {code}\n{told}"
            )
            messages = [line for line in told.splitlines() if line.startswith("error: ")]
            assert code != USER_ERROR or (len(messages) == 1 and "Traceback" not in told), told
            done["read errors" if code == USER_ERROR else "kill"] += 1
            print(f"  {name}: {done}, {ends} runs to the end", file=sys.stderr, flush=True)
            continue
        assert contents(parts) == expected, f"{name}: {parts} differs after {done}"
        ends += 1
        if not left:
            return done, ends
        parts = folder / f"parts-{ends}"


def draw_fault(kind: str, longest: float, draw: random.Random) -> Fault:
    """Return a fault of a kind, at a random moment; read errors come thick or thin, and with a later kill."""
    if kind == "kill":
        return Fault(draw.uniform(0, longest))
    return Fault(draw.uniform(0, 2 * longest), one_in=round(10 ** draw.uniform(1.5, 3.3)), seed=draw.randrange(2**32))


def whole_checkpoints(out: Path) -> dict[int, bool]:
    """Return the steps of a run's whole checkpoints, each with whether it is a milestone."""
    found = {}
    for step, path in checkpoint_paths(out / "checkpoints").items():
        sums = dict(reversed(line.split("  ")) for line in (path / SUMS).read_text().splitlines())
        if all(hashlib.sha256((path / file).read_bytes()).hexdigest() == digest for file, digest in sums.items()):
            found[step] = (path / MILESTONE).exists()
    return found


def check_nothing_lost(before: dict[int, bool], after: dict[int, bool], out: Path) -> None:
    """Fail where a milestone has gone, or one of the last checkpoints without as many newer ones in its place."""
    for step in before.keys() - after.keys():
        newer = [other for other, is_milestone in after.items() if other > step and not is_milestone]
        assert not before[step], f"{out}: the milestone of step {step} is lost"
        assert len(newer) >= KEPT, f"{out}: step {step} was removed, {newer} alone is newer"
    torn = set(checkpoint_paths(out / "checkpoints")) - set(after)
    assert not torn, f"{out}: {torn} have a checkpoint's name and are not whole"


def start(name: str, out: Path, fault: Fault | None) -> ForkServerProcess:
    """Start a run in a process of its own."""
    arguments = [str(RECIPES / f"{name}.yaml"), *RUNS[name], f"out={out}"]
    process = SERVER.Process(target=_become, args=(name, arguments, out, fault))
    process.start()
    return process


def wait(process: ForkServerProcess, fault: Fault | None) -> int:
    """Wait for a run, or kill it when its moment has come; return its exit code."""
    if fault is not None:
        while process.is_alive() and _processor_seconds(process.pid or 0) < fault.seconds:
            time.sleep(0.002)
        process.kill()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def contents(out: Path) -> dict[str, object]:
    """Return what a run leaves that no clock is in: weights, moments, teacher, centre; metrics; the export."""
    newest = sorted((out / "checkpoints").glob("step-*"))[-1]
    paths = [newest / "state.safetensors", out / "metrics.jsonl", *sorted((out / "export").glob("[!.]*"))]
    found: dict[str, object] = {path.name: path.read_bytes() for path in paths}
    return found | {"metrics": json.loads((out / "result.json").read_text())["metrics"]}


def _processor_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def _become(name: str, arguments: list[str], out: Path, fault: Fault | None) -> None:
    """Be a run, without a word unless it fails in another way than by its fault."""
    import importlib

    import torch

    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if fault is not None:
        os.dup2(os.open(out.with_name("errors.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    main = importlib.import_module(f"{name}.__main__").main
    if fault is not None and fault.one_in:
        ctypes.CDLL(None).failing_reads(ctypes.c_uint64(fault.seed), fault.one_in, str(out).encode())
    code = main(arguments)
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
