"""200 fake runs on each engine, the study's process killed five times on the way: no run is lost, none is run twice."""

import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from recipes.run.engine import Engine
from recipes.run.engines import LocalSlots
from recipes.run.runner import StudyRunner
from recipes.run.slurm.engine import SlurmEngine
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


@pytest.fixture
def runs() -> list[PlannedRun]:
    """Return 200 runs: 40 pre-trainings, each with four that start from it."""
    first = [PlannedRun(f"pretrain-seed{n}-{n:08x}", "pretrain", "pretrain", "a.yaml", (), {}, None) for n in range(40)]
    second = [
        PlannedRun(f"finetune-{n}-{1000 + n:08x}", "finetune", "finetune", "b.yaml", (), {}, first[n % 40].id)
        for n in range(160)
    ]
    return first + second


def test_no_run_is_lost_or_repeated_on_this_machine(
    runs: list[PlannedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = _write_stage(tmp_path, monkeypatch)
    assert_all_run_once(runs, tmp_path, lambda: LocalSlots(4, lambda job: [*stage, *job.arguments]), seed=0)


def test_no_run_is_lost_or_repeated_on_a_cluster(
    runs: list[PlannedRun],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_slurm: FakeSlurm,
    cluster: Callable[..., SlurmEngine],
) -> None:
    stage = _write_stage(tmp_path, monkeypatch)

    def build() -> SlurmEngine:
        engine = cluster(50)
        engine.command = lambda job, _: [*stage, *job.arguments]
        return engine

    assert_all_run_once(runs, tmp_path, build, seed=1)
    tasks = fake_slurm.tasks()
    assert {task["state"] for task in tasks.values()} == {"COMPLETED"}
    assert len(tasks) == RUNS


def _write_stage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write the fake stage; return the words that start it."""
    (folder / "stage.py").write_text(STAGE)
    (folder / "starts.txt").touch()
    monkeypatch.setenv("FAKE_STARTS", str(folder / "starts.txt"))
    return [sys.executable, "-S", str(folder / "stage.py")]


def assert_all_run_once(runs: list[PlannedRun], folder: Path, build: Callable[[], Engine], seed: int) -> None:
    """Run all, kill the study's process when random numbers of runs have started, and check that each ran once."""
    marks = sorted(random.Random(seed).sample(range(10, RUNS - 20), KILLS))
    starts, places = folder / "starts.txt", folder / "study" / "runs"
    codes = []
    for mark in (*marks, None):
        process = multiprocessing.get_context("fork").Process(target=_run, args=(runs, places, build))
        process.start()
        deadline = time.monotonic() + 240
        while process.is_alive() and (mark is None or len(starts.read_text().split()) < mark):
            assert time.monotonic() < deadline, "the study does not advance"
            time.sleep(0.01)
        process.kill()
        process.join()
        codes.append(process.exitcode)
    assert codes == [-9] * KILLS + [0]
    assert sorted(starts.read_text().split()) == sorted(run.id for run in runs)
    assert all(read_state(places / run.id) == "done" for run in runs)


def _run(runs: list[PlannedRun], folder: Path, build: Callable[[], Engine]) -> None:
    """Run the study in this process."""
    sys.exit(StudyRunner(runs, folder, build(), lambda line: None, "test_top1", 0.02).run().exit_code)
