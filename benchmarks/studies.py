"""Studies of small runs: with prefork and without; active and passive waiting of threads."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from benchmarks.timing import Row, Table, summarize
from recipes.run.environment import OPENMP_WAIT_VARIABLES

SEEDS = "0,1,2,3"
ONLY = ("--seeds", SEEDS, "--only", "finetune-patchify-OST-fraction1.0")
STUDY = ("quickstart", *ONLY, "match=none", "tune=none", "finetune.train.batch_size=128")
VARIANTS = {
    "reference: no prefork, one at a time": ("--no-prefork", "--jobs", "1"),
    "no prefork, two at a time": ("--no-prefork", "--jobs", "2"),
    "prefork, one at a time": ("--jobs", "1"),
    "prefork, two at a time": ("--jobs", "2"),
}
RUN = ("recipes/digits/pretrain.yaml", "train.epochs=2")
THREADS = {
    "reference: 2 threads, active waiting": {"OMP_NUM_THREADS": "2"},
    "2 threads, passive waiting, as in studies": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    "1 thread": {"OMP_NUM_THREADS": "1"},
}


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    return [compare_starts(min(repeats, 3)), *(compare_threads(busy, min(repeats, 3)) for busy in (False, True))]


def compare_starts(repeats: int) -> Table:
    """Time a small study, including its report."""
    times: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, options) in enumerate(list(VARIANTS.items()) * repeats):
            # Each study is in a parent folder of its own: sibling studies would share runs.
            times[name].append(time_study(options, Path(folder, str(number), "study")))
    rows = summarize(times)
    runs = len(SEEDS.split(","))
    saved = (rows[0].median_ms - rows[2].median_ms) / runs / 1000
    limit = f"prefork saves {saved:.1f} s of imports per run; each time includes the report at the end"
    return Table(f"A study of {runs} fine-tunings on the digits, 72 steps each", "ms", rows, limit)


def time_study(options: tuple[str, ...], out: Path) -> float:
    """Return the time of a study in milliseconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "recipes", "run", *STUDY, *options, "--out", str(out)]
    subprocess.run(command, env=environment({}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - started) * 1000


def compare_threads(busy: bool, repeats: int) -> Table:
    """Time a run of a tiny network, on an idle machine or with one core busy with another program."""
    times: dict[str, list[float]] = {name: [] for name in THREADS}
    weights: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, busy_core() if busy else nullcontext():
        for number, (name, variables) in enumerate(list(THREADS.items()) * repeats):
            result = pretrain(variables, Path(folder, str(number)))
            times[name].append(1000 * result["seconds"])
            weights[name] = digest(Path(folder, str(number), "export", "model.safetensors"))
    active, passive, single = (weights[name] for name in THREADS)
    limit = f"bitwise equal weights, active and passive: {active == passive}, 1 and 2 threads: {active == single}"
    state = "one core busy with another program" if busy else "an idle machine"
    rows: list[Row] = summarize(times)
    return Table(f"A pre-training on the digits, 36 steps, {state}", "ms", rows, limit)


def pretrain(variables: dict[str, str], out: Path) -> dict[str, float]:
    """Run a short pre-training; return its result.json."""
    command = [sys.executable, "-m", "pretrain", *RUN, f"out={out}"]
    subprocess.run(
        command, env=environment(variables), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    result: dict[str, float] = json.loads((out / "result.json").read_text())
    return result


def digest(path: Path) -> str:
    """Return a hash of a file."""
    return hashlib.blake2b(path.read_bytes()).hexdigest()


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with `variables` as its only settings of threads."""
    settled = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", *OPENMP_WAIT_VARIABLES}
    return {name: value for name, value in os.environ.items() if name not in settled} | variables


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy within the block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
