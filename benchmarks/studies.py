"""Studies of small runs: forked from a warm process against started cold; threads that wait for one another awake or asleep."""

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

from benchmarks.timing import Row, Table, summarise
from recipes.run.engines import WAITING

SEEDS = "0,1,2,3"
STUDY = ("quickstart", "--seeds", SEEDS, "--only", "patchify-OST-fraction1.0", "finetune.train.batch_size=128")
WAYS = {
    "plain: cold, one at a time": ("--cold", "--jobs", "1"),
    "cold, two at a time": ("--cold", "--jobs", "2"),
    "warm, one at a time": ("--jobs", "1"),
    "warm, two at a time": ("--jobs", "2"),
}
RUN = ("recipes/digits/pretrain.yaml", "train.epochs=2")
THREADS = {
    "plain: 2 threads that wait awake": {"OMP_NUM_THREADS": "2"},
    "2 threads that wait asleep, as studies start them": {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"},
    "1 thread": {"OMP_NUM_THREADS": "1"},
}


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    return [compare_starts(min(repeats, 3)), *(compare_threads(busy, min(repeats, 3)) for busy in (False, True))]


def compare_starts(repeats: int) -> Table:
    """Time a small study, its report left out of no way."""
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for number, (way, options) in enumerate(list(WAYS.items()) * repeats):
            times[way].append(time_study(options, Path(folder, str(number), "study")))  # beside none: they would share
    rows = summarise(times)
    runs = len(SEEDS.split(","))
    saved = (rows[0].median_ms - rows[2].median_ms) / runs / 1000
    limit = f"a run saves {saved:.1f} s of imports by being forked; the report at the end is part of each time"
    return Table(f"A study of {runs} fine-tunings on the digits, 72 steps each", "ms", rows, limit)


def time_study(options: tuple[str, ...], out: Path) -> float:
    """Return the milliseconds that the study takes."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "recipes", "run", *STUDY, *options, "--out", str(out)]
    subprocess.run(command, env=environment({}), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - begun) * 1000


def compare_threads(busy: bool, repeats: int) -> Table:
    """Time a run of a tiny network with one core kept busy by another program, or with none."""
    times: dict[str, list[float]] = {way: [] for way in THREADS}
    weights: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, busy_core() if busy else nullcontext():
        for number, (way, variables) in enumerate(list(THREADS.items()) * repeats):
            result = pretrain(variables, Path(folder, str(number)))
            times[way].append(1000 * result["seconds"])
            weights[way] = digest(Path(folder, str(number), "export", "model.safetensors"))
    awake, asleep, single = (weights[way] for way in THREADS)
    facts = f"the same bits awake and asleep: {awake == asleep}, with 1 and 2 threads: {awake == single}"
    state = "one core kept busy by another program" if busy else "a quiet machine"
    rows: list[Row] = summarise(times)
    return Table(f"A pre-training on the digits, 36 steps, {state}", "ms", rows, f"trained weights of {facts}")


def pretrain(variables: dict[str, str], out: Path) -> dict[str, float]:
    """Run a short pre-training; return its result."""
    command = [sys.executable, "-m", "pretrain", *RUN, f"out={out}"]
    subprocess.run(
        command, env=environment(variables), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    found: dict[str, float] = json.loads((out / "result.json").read_text())
    return found


def digest(path: Path) -> str:
    """Return a hash of a file."""
    return hashlib.blake2b(path.read_bytes()).hexdigest()


def environment(variables: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with `variables` and no other word on threads."""
    settled = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", *WAITING}
    return {name: value for name, value in os.environ.items() if name not in settled} | variables


@contextmanager
def busy_core() -> Iterator[None]:
    """Keep one core busy for the length of a `with` block."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
