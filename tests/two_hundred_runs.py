"""200 fake runs on an engine, the study's process killed by SIGKILL five times on the way: none is lost, none is run twice."""

import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from recipes.run.engine import Engine
from recipes.run.runner import StudyRunner
from recipes.run.states import read_state
from recipes.study.plan import PlannedRun

RUNS, KILLS = 200, 5

STAGE = """
import json, os, sys, time
out = next(word[4:] for word in sys.argv if word.startswith("out="))
with open(os.environ["FAKE_STARTS"], "a") as file:
    file.write(os.path.basename(out) + "\\n")
needs = [word[5:] for word in sys.argv if word.startswith("init=")]
if needs and not os.path.isfile(needs[0] + "/result.json"):
    sys.exit("started before its pre-training was done")
time.sleep(0.02)
with open(out + "/result.new", "w") as file:
    json.dump({"status": "finished", "reason": "", "step": 7, "metrics": {}, "seconds": 0.1, "images": 70, "parameters": 5,
        "images_per_second": 700.0, "train_images": 10, "num_processes": 1}, file)
os.replace(out + "/result.new", out + "/result.json")
"""

BuildEngine = Callable[[str, Sequence[str]], Engine]
"""(what it connects to, the words that start the fake stage) -> an engine."""


def plan_runs() -> list[PlannedRun]:
    """Return 200 runs: 40 pre-trainings, each with four that start from it."""
    first = [PlannedRun(f"pretrain-seed{n}-{n:08x}", "pretrain", "pretrain", "a.yaml", (), {}, None) for n in range(40)]
    second = [
        PlannedRun(f"finetune-{n}-{1000 + n:08x}", "finetune", "finetune", "b.yaml", (), {}, first[n % 40].id)
        for n in range(160)
    ]
    return first + second


def write_stage(folder: Path, environment: Mapping[str, str] | None = None) -> list[str]:
    """Write the fake stage, and an empty list of starts; return the words that start it."""
    (folder / "stage.py").write_text(STAGE)
    (folder / "starts.txt").touch()
    return [sys.executable, "-S", str(folder / "stage.py")]


def assert_all_run_once(folder: Path, build: BuildEngine, where: str, *, seed: int, start: str = "fork") -> list[float]:
    """Run all, and kill the study's process when random numbers of runs have started; then check that each ran once.

    The study's processes are forked, or spawned. Return the seconds of each.
    """
    runs, words = plan_runs(), write_stage(folder)
    marks = sorted(random.Random(seed).sample(range(10, RUNS - 20), KILLS))
    starts, places = folder / "starts.txt", folder / "study" / "runs"
    codes, seconds = [], []
    for mark in (*marks, None):
        process = multiprocessing.get_context(start).Process(target=_run, args=(runs, places, build, where, words))  # type: ignore[attr-defined]
        process.start()
        begun, last, at = time.monotonic(), 0, time.monotonic()
        while process.is_alive() and (mark is None or len(starts.read_text().split()) < mark):
            count = len(starts.read_text().split())
            last, at = (count, time.monotonic()) if count > last else (last, at)
            assert time.monotonic() < at + 240, f"the study does not advance: {count} runs have started"
            time.sleep(0.01)
        process.kill()
        process.join()
        codes.append(process.exitcode)
        seconds.append(time.monotonic() - begun)
    assert codes == [-9] * KILLS + [0]
    assert sorted(starts.read_text().split()) == sorted(run.id for run in runs)
    assert all(read_state(places / run.id) == "done" for run in runs)
    return seconds


def _run(runs: list[PlannedRun], folder: Path, build: BuildEngine, where: str, words: list[str]) -> None:
    """Run the study in this process."""
    sys.exit(StudyRunner(runs, folder, build(where, words), lambda line: None, "test_top1", 0.02).run().exit_code)
