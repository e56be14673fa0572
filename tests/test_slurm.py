"""A study on a real Slurm of two nodes, with a node lost, a job requeued and a time limit: bit-equal to this machine's engine."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from conftest import RECIPES
from mini_slurm import MiniSlurm, mini_slurm, reason_to_skip, wait_for

from common.cores import available_cores

ROOT = RECIPES.parent
pytestmark = [
    pytest.mark.run,
    pytest.mark.long,
    pytest.mark.skipif(bool(reason_to_skip()), reason=f"no Slurm: {reason_to_skip()}"),
]

WHOLE = pytest.mark.skipif(
    os.environ.get("TEST_SLURM") != "all", reason="a study takes minutes on two cores; TEST_SLURM=all runs it"
)

LEVELS = {
    "patchify": {"model.stem": "patchify", "pretrain.train.epochs": 30},  # longer than half of a time limit of a minute
    "conv": {"model.stem": "conv", "pretrain.train.epochs": 2},
}
STUDY = {
    "name": "cluster",
    "question": "Does a cluster give the same results?",
    "stages": {
        "pretrain": {
            "recipe": "recipes/digits/pretrain.yaml",
            "set": {"train.checkpoint_steps": 20},
        },
        "finetune": {"recipe": "recipes/digits/finetune.yaml", "set": {"train.epochs": 1}},
    },
    "axes": {
        "stem": {"levels": LEVELS},
        "training": {"levels": {"OST": {}, "TST": {"starts_from": {"finetune": "pretrain"}}}},
        "seed": {"key": "train.seed", "values": [0, 1]},
    },
    "report": {"metrics": {"top1": "test_top1"}, "repeats": "seed", "figure": {"kind": "rows"}},
    "slurm": {"time": "00:30:00", "save_seconds": 30},
}


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniSlurm]:
    """Return a running Slurm of two nodes."""
    with mini_slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


class Command:
    """`python -m recipes run` on a study file, as a process; the folder has no neighbors, whose runs it would share."""

    def __init__(self, folder: Path, study: Mapping[str, object]) -> None:
        self.folder, self.file, self.out = folder, folder / "study.yaml", folder / "cluster"
        folder.mkdir(exist_ok=True)
        self.file.write_text(yaml.safe_dump({**study}, sort_keys=False))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start it; its output goes to a file."""
        command = [sys.executable, "-m", "recipes", "run", str(self.file), "--out", str(self.out), *words]
        with (self.folder / "output.txt").open("a") as output:
            return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True)

    def run(self, *words: str, seconds: float = 1500) -> str:
        """Run it to its end; return all output so far."""
        process = self.start(*words)
        try:
            assert process.wait(seconds) == 0, self.output()
        finally:
            process.kill()
        return self.output()

    def output(self) -> str:
        """Return what the commands have printed."""
        return (self.folder / "output.txt").read_text()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Return the study as this machine's engine runs it, each run with one thread, as a node of the cluster has one core."""
    command = Command(tmp_path_factory.mktemp("local"), STUDY)
    command.run("--jobs", str(available_cores()))
    return command


def assert_equal(one: Command, other: Command) -> None:
    """Compare every run of two studies: the files it has, metrics, curves, weights and test predictions."""
    here, there = one.out / "runs", other.out / "runs"
    names = sorted(path.name for path in here.iterdir())
    assert names == sorted(path.name for path in there.iterdir()) and len(names) == 12
    for run in names:
        results = [json.loads((place / run / "result.json").read_text()) for place in (here, there)]
        assert results[0]["metrics"] == results[1]["metrics"], run
        files = {path.relative_to(here / run) for path in (here / run).rglob("*") if path.suffix in FILES}
        files = {file for file in files if file.parts[0] != "checkpoints"}  # an interruption writes one more
        files |= {
            path.relative_to(here / run) for path in sorted((here / run).glob("checkpoints/*/state.safetensors"))[-1:]
        }
        assert len(files) > 2, files
        for file in files:
            assert (here / run / file).read_bytes() == (there / run / file).read_bytes(), (run, file)
        assert {path.name for path in (here / run).iterdir()} == {path.name for path in (there / run).iterdir()}


FILES = (".jsonl", ".safetensors", ".npy", ".csv")


def running(slurm: MiniSlurm) -> dict[str, str]:
    """Return the nodes of the running jobs by id."""
    lines = slurm.call("squeue", "-h", "--array", "--states=RUNNING", "--format=%F_%K %N").splitlines()
    return dict(line.split() for line in lines)


def state_of(slurm: MiniSlurm, job: str) -> str:
    """Return Slurm's state of a job."""
    return slurm.call("squeue", "-h", "--states=all", f"--jobs={job}", "--format=%T")


@WHOLE
def test_a_study_with_faults_is_equal_to_that_of_this_machine(slurm: MiniSlurm, tmp_path: Path, local: Command) -> None:
    command = Command(tmp_path / "faults", STUDY)
    process = command.start("--engine", "slurm")
    try:
        wait_for(lambda: len(running(slurm)) == 2, "no two jobs run", 300)
        limited, lost = sorted(running(slurm), key=lambda job: running(slurm)[job])
        slurm.call("scontrol", "update", f"jobid={limited}", "TimeLimit=1")
        wait_for(lambda: state_of(slurm, limited) == "PENDING", "the time limit has no effect", 200)
        slurm.call("scontrol", "update", f"jobid={limited}", "TimeLimit=30")
        wait_for(lambda: list(command.out.glob("runs/pretrain-*/checkpoints/step-*")), "no checkpoint", 300)
        slurm.lose_node("n2")
        wait_for(lambda: state_of(slurm, lost) == "PENDING", "the lost node is not noticed", 300)
        slurm.start_node("n2")
        wait_for(lambda: "n2" in running(slurm).values(), "the node does not come back", 300)
        requeued = next(job for job, node in running(slurm).items() if node == "n2")
        slurm.call("scontrol", "requeue", requeued)
        assert process.wait(2400) == 0, command.output()
    finally:
        process.kill()
    print(command.output())
    starts = [json.loads(path.read_text())["starts"] for path in command.out.glob("slurm/*/[0-9]*.json")]
    assert len(starts) == 12 and sum(starts) >= 15
    assert any("SIGUSR1" in path.read_text() for path in command.out.glob("runs/*/log.txt"))
    assert_equal(local, command)


@WHOLE
def test_a_detached_study_is_equal_to_that_of_this_machine(slurm: MiniSlurm, tmp_path: Path, local: Command) -> None:
    command = Command(tmp_path / "detached", STUDY)
    assert "12 submitted" in command.run("--engine", "slurm", "--detach")
    assert "Dependency" in slurm.call("squeue", "-h", "--array", "--format=%r")
    status = [sys.executable, "-m", "recipes", "status", str(command.out)]
    printed = subprocess.run(status, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "12 runs: " in printed and "queued" in printed and "for pretrain-" in printed
    wait_for(lambda: running(slurm), "nothing runs", 60)
    slurm.call("scontrol", "requeue", next(iter(running(slurm))))
    wait_for(lambda: not slurm.call("squeue", "-h"), "jobs stay", 2400)
    output = command.run("--engine", "slurm", "--detach")
    assert "12 done" in output and "report: " in output
    assert_equal(local, command)


CORRESPONDING = """#!/bin/bash
task=$SLURM_ARRAY_TASK_ID
echo $1 $task >> {log}
[ $1 = second ] && exit 0
[ $task = 1 ] && exit 1
[ $task = 2 ] && [ -z "$SLURM_RESTART_COUNT" ] && scontrol requeue ${{SLURM_ARRAY_JOB_ID}}_$task && sleep 60
echo done $task >> {log}
"""


@WHOLE
def test_a_task_starts_after_the_task_of_its_index(slurm: MiniSlurm, tmp_path: Path) -> None:
    """What --detach relies on: one whose task fails is cancelled alone, one whose task is requeued waits."""
    script, log = tmp_path / "script.sh", tmp_path / "log.txt"
    script.write_text(CORRESPONDING.format(log=log))
    words = ["sbatch", "--parsable", f"--output={tmp_path}/%A_%a.txt", "--requeue", "--kill-on-invalid-dep=yes"]
    first = slurm.call(*words, "--array=0-3", str(script), "first")
    slurm.call(*words, "--array=1-3", f"--dependency=aftercorr:{first}", str(script), "second")
    wait_for(lambda: not slurm.call("squeue", "-h"), "jobs stay", 300)
    lines = log.read_text().splitlines()
    assert lines.count("first 2") == 2 and "second 1" not in lines
    assert all(lines.index(f"done {task}") < lines.index(f"second {task}") for task in (2, 3))


def test_a_run_over_two_nodes_has_two_processes(slurm: MiniSlurm, tmp_path: Path) -> None:
    command = Command(tmp_path / "nodes", {**STUDY, "slurm": {**STUDY["slurm"], "nodes": 2}})  # type: ignore[dict-item]
    command.run("--engine", "slurm", "--only", "finetune-patchify-OST-seed0")
    (result,) = command.out.glob("runs/*/result.json")
    assert json.loads(result.read_text())["num_processes"] == 2
