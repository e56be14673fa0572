"""A detached study: everything is submitted at once, in the order of its dependencies, and nothing twice."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from common.errors import UserError
from recipes.__main__ import main
from recipes.run.build_engine import EngineOptions
from recipes.run.slurm.detach import submit_all
from recipes.run.slurm.engine import SlurmEngine
from recipes.run.slurm.programs import SlurmBusy
from recipes.study.plan import Plan, PlannedRun, Resolver

SetBehavior = Callable[..., list[str]]
BuildEngine = Callable[..., SlurmEngine]


@pytest.fixture
def runs(plan: Plan) -> list[PlannedRun]:
    """Return six runs: a pre-training, its four fine-tunings, and one training from scratch."""
    return [run for run in plan.select("conv*seed0") if run.levels.get("training") != "OST" or "0.1" in run.id]


def wait_until_empty(slurm: FakeSlurm) -> None:
    """Wait until no task waits or runs."""
    deadline = time.monotonic() + 240
    while {task["state"] for task in slurm.tasks().values()} & {"PENDING", "RUNNING", "COMPLETING"}:
        assert time.monotonic() < deadline, slurm.tasks()
        time.sleep(0.05)


def wake(folder: Path, slurm: FakeSlurm) -> None:
    """End the sleep of each run that sleeps (it saves, and its job requeues itself), until no task waits or runs."""
    deadline = time.monotonic() + 240
    while {task["state"] for task in slurm.tasks().values()} & {"PENDING", "RUNNING", "COMPLETING"}:
        assert time.monotonic() < deadline, slurm.tasks()
        for path in folder.glob("*/started"):
            if pid := path.read_text():
                path.unlink()
                os.kill(int(pid), signal.SIGTERM)
        time.sleep(0.05)


def submit(runs: list[PlannedRun], folder: Path, engine: SlurmEngine) -> tuple[dict[str, int], list[str]]:
    """Submit runs; return the numbers of runs by state, and the printed lines."""
    lines: list[str] = []
    states = submit_all(runs, folder, engine, lines.append)
    assert states.keys() == {run.id for run in runs}
    return {state: list(states.values()).count(state) for state in states.values()}, lines


def test_everything_is_submitted_once_and_in_order(
    runs: list[PlannedRun], tmp_path: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    folder = tmp_path / "study" / "runs"
    fake_stage(pretrain="sleep")
    assert submit(runs, folder, cluster())[0] == {"submitted": 6}
    again = submit(runs, folder, cluster())[0]  # what needs no pre-training may have ended since
    assert sum(again.values()) == 6 and set(again) <= {"in the queue", "done"}
    dependent = [task for task in fake_slurm.tasks().values() if "dependency" in task["options"]]
    assert len(dependent) == 4
    assert {task["options"]["dependency"] for task in dependent} == {"afterok:1_0"}
    while not fake_slurm.tasks()["1_0"]["pid"] or not list(folder.glob("*/started")):
        time.sleep(0.02)
    fake_slurm.warn("1_0")
    wait_until_empty(fake_slurm)
    assert submit(runs, folder, cluster())[0] == {"done": 6}
    assert len(fake_slurm.tasks()) == 6 and len(fake_stage()) == 7


def test_runs_that_start_from_a_failed_run_are_cancelled_and_submitted_again_with_it(
    runs: list[PlannedRun], tmp_path: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    folder = tmp_path / "study" / "runs"
    fake_stage(pretrain="fail")
    submit(runs, folder, cluster())
    wait_until_empty(fake_slurm)
    assert len(fake_stage()) == 2
    counts, lines = submit(runs, folder, cluster())
    assert counts == {"submitted": 5, "done": 1}
    assert any("FAILED before" in line and "exit code 3" in line for line in lines)
    wait_until_empty(fake_slurm)
    assert submit(runs, folder, cluster())[0] == {"done": 6}


def test_runs_that_start_from_a_diverged_run_are_skipped(
    runs: list[PlannedRun], tmp_path: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    folder = tmp_path / "study" / "runs"
    fake_stage(pretrain="diverge")
    submit(runs, folder, cluster())
    wait_until_empty(fake_slurm)
    assert submit(runs, folder, cluster())[0] == {"done": 2, "skipped": 4}


@pytest.fixture
def pairs(plan: Plan) -> list[PlannedRun]:
    """Return 18 runs: six pre-trainings, the fine-tuning of each, and as many from scratch."""
    return list(plan.select("fraction0.1"))


def test_runs_that_start_from_one_array_are_one_array_and_the_queue_is_read_once(
    pairs: list[PlannedRun], tmp_path: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    folder, squeue, asked = tmp_path / "study" / "runs", fake_slurm.folder / "squeue", tmp_path / "asked"
    squeue.write_text(squeue.read_text().replace("exec ", f"echo asked >> {asked}\nexec "))
    assert submit(pairs, folder, cluster())[0] == {"submitted": 18}
    assert asked.read_text().split() == ["asked"]
    tasks = fake_slurm.tasks()
    arrays = [task["array"] for task in tasks.values()]
    assert sorted(map(arrays.count, set(arrays))) == [6, 6, 6]
    waits = {task["array"]: task["options"].get("dependency", "") for task in tasks.values()}
    assert sorted(waits.values()) == ["", "", "aftercorr:1"]
    wait_until_empty(fake_slurm)
    assert submit(pairs, folder, cluster())[0] == {"done": 18} and len(fake_stage()) == 18


def test_of_an_array_only_the_runs_that_start_from_a_failed_run_are_cancelled(
    pairs: list[PlannedRun], tmp_path: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    folder = tmp_path / "study" / "runs"
    fake_stage(**{"pretrain-conv-seed1": "fail"})
    submit(pairs, folder, cluster())
    wait_until_empty(fake_slurm)
    assert len(fake_stage()) == 17
    assert submit(pairs, folder, cluster())[0] == {"submitted": 2, "done": 16}
    wait_until_empty(fake_slurm)
    assert submit(pairs, folder, cluster())[0] == {"done": 18}


def test_runs_whose_runs_wait_in_the_queue_get_their_indices(
    pairs: list[PlannedRun], tmp_path: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    folder = tmp_path / "study" / "runs"
    fake_stage(**{"pretrain-conv": "sleep"})
    pretrainings = [run for run in pairs if run.stage == "pretrain"]
    submit(pretrainings, folder, cluster())
    live = ("PENDING", "RUNNING")
    while [task["state"] in live for task in fake_slurm.tasks().values()].count(True) > 3:
        time.sleep(0.02)
    fake_stage()
    assert submit(pairs, folder, cluster())[0] == {"done": 3, "in the queue": 3, "submitted": 12}
    waiting = {name: task for name, task in fake_slurm.tasks().items() if task["options"].get("dependency")}
    assert {task["options"]["dependency"] for task in waiting.values()} == {"aftercorr:1"}
    sleeping = {
        task["index"] for name, task in fake_slurm.tasks().items() if task["array"] == "1" and task["state"] in live
    }
    assert {task["index"] for task in waiting.values()} == sleeping
    wake(folder, fake_slurm)
    assert submit(pairs, folder, cluster())[0] == {"done": 18}


def test_what_a_limit_of_submitted_jobs_does_not_allow_is_submitted_by_the_same_command_later(
    pairs: list[PlannedRun], tmp_path: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    folder, lines = tmp_path / "study" / "runs", list[str]()
    fake_stage(pretrain="sleep")
    fake_slurm.limit(submitted=5)
    with pytest.raises(SlurmBusy, match="QOSMaxSubmitJobPerUserLimit"):
        submit_all(pairs, folder, cluster(), lines.append)
    assert lines == ["5 submitted, 13 not submitted"]
    assert len(fake_slurm.tasks()) == 5
    wake(folder, fake_slurm)
    fake_slurm.limit()
    fake_stage()
    assert submit(pairs, folder, cluster())[0] == {"done": 5, "submitted": 13}
    wait_until_empty(fake_slurm)
    assert submit(pairs, folder, cluster())[0] == {"done": 18} and len(fake_stage()) == 18 + 5


def test_a_refusal_is_raised_once_it_is_printed_what_was_submitted(
    pairs: list[PlannedRun], tmp_path: Path, fake_stage: SetBehavior, fake_slurm: FakeSlurm, cluster: BuildEngine
) -> None:
    folder, lines, sbatch = tmp_path / "study" / "runs", list[str](), fake_slurm.folder / "sbatch"
    refusal = 'case "$*" in *--dependency=*) echo "sbatch: error: Invalid account" >&2; exit 1;; esac'
    sbatch.write_text(sbatch.read_text().replace("exec ", f"{refusal}\nexec "))
    with pytest.raises(UserError, match="Invalid account"):
        submit_all(pairs, folder, cluster(), lines.append)
    assert lines == ["12 submitted, 6 not submitted"]
    wait_until_empty(fake_slurm)


def test_the_command_submits_and_later_reports(
    study_file: Path,
    tmp_path: Path,
    fake_stage: SetBehavior,
    fake_slurm: FakeSlurm,
    cluster: BuildEngine,
    echo_config: Resolver,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "study"
    words = [
        "run",
        str(study_file),
        "--out",
        str(out),
        "--only",
        "conv*fraction0.1-seed0",
        "--engine",
        "slurm",
        "--detach",
    ]

    def call() -> str:
        assert main(words, resolve=echo_config, engine_builder=lambda options, study: cluster()) == 0
        return capsys.readouterr().out

    assert "3 submitted" in call()
    wait_until_empty(fake_slurm)
    printed = call()
    assert "3 done" in printed and f"report: {out / 'report.html'}" in printed


def test_a_study_whose_runs_depend_on_results_is_refused(
    tmp_path: Path, fake_slurm: FakeSlurm, cluster: BuildEngine, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "run",
        "quickstart",
        "--seeds",
        "7",
        "finetune.optim.lr=1e-3",
        "--out",
        str(tmp_path / "out"),
        "--engine",
        "slurm",
    ]
    assert main([*words, "--detach"], engine_builder=lambda options, study: cluster()) == 2
    assert "--detach: study quickstart chooses lengths by the results of runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EngineOptions(detach=True), "--detach: is for --engine slurm"),
        (EngineOptions(slurm_file=Path("a.yaml")), "--slurm: is for --engine slurm"),
        (EngineOptions("slurm", accelerate_args=("--multi_gpu",)), "--accelerate-args: with --engine slurm"),
        (EngineOptions("slurm", no_prefork=True), "--no-prefork"),
        (EngineOptions("slurm", jobs=3, detach=True), "--jobs 3: with --detach"),
        (EngineOptions(jobs=0), "--jobs 0: must be at least 1"),
    ],
)
def test_options_that_an_engine_does_not_have_are_refused(options: EngineOptions, message: str) -> None:
    with pytest.raises(UserError, match=message):
        options.check()
