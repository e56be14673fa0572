"""A study on a real Ray of three nodes: one node killed, bit-equal to this machine's engine; 200 runs with the study killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from mini_ray import MiniRay, mini_ray, processes_of, reason_to_skip
from mini_slurm import wait_for
from test_slurm import ROOT, STUDY, Command, assert_equal
from two_hundred_runs import assert_all_run_once

from common.cores import available_cores
from recipes.run.engine import Engine
from recipes.run.ray.client import connect
from recipes.run.ray.engine import RayEngine
from recipes.run.ray.tasks import TaskRecord, read_record
from recipes.study.ray_section import RayEntry

pytestmark = [
    pytest.mark.run,
    pytest.mark.long,
    pytest.mark.skipif(bool(reason_to_skip()), reason=f"no Ray: {reason_to_skip()}"),
]


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniRay]:
    """Return a running Ray of three nodes."""
    with mini_ray() as running:
        yield running


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Return the study as this machine's engine runs it, each run with one thread, as a node has one CPU."""
    command = Command(tmp_path_factory.mktemp("local"), STUDY)
    command.run("--jobs", str(available_cores()))
    return command


def build(address: str, words: Sequence[str]) -> Engine:
    """Return an engine on the cluster at an address, whose runs are the fake stage."""
    return RayEngine(RayEntry(), lambda job, _: [*words, *job.arguments], connect(address))


@pytest.mark.skipif(os.environ.get("TEST_RAY") != "all", reason="takes minutes more; TEST_RAY=all runs it")
def test_no_run_is_lost_or_repeated_where_the_study_is_killed(
    ray: MiniRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STARTS", str(tmp_path / "starts.txt"))
    print(assert_all_run_once(tmp_path, build, ray.address, seed=2, start="spawn"))


def records(command: Command) -> dict[Path, TaskRecord]:
    """Return what became of the tasks by the folders of their runs."""
    found = {path: read_record(path) for path in sorted((command.out / "runs").glob("*"))}
    return {path: record for path, record in found.items() if record is not None}


def on_a_node_to_lose(command: Command) -> list[tuple[Path, str]]:
    """Return the runs with a checkpoint that are not on the head node, and their nodes."""
    return [
        (path, record.node)
        for path, record in records(command).items()
        if record.state == "started" and record.node != "n1" and list(path.glob("checkpoints/step-*"))
    ]


def status(command: Command) -> str:
    """Return the status of a study."""
    words = [sys.executable, "-m", "recipes", "status", str(command.out)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_study_with_a_killed_node_is_equal_to_that_of_this_machine(
    ray: MiniRay, tmp_path: Path, local: Command
) -> None:
    command = Command(tmp_path / "faults", {**STUDY, "ray": {"address": ray.address}})
    process = command.start("--engine", "ray")
    try:
        wait_for(lambda: on_a_node_to_lose(command), "no run has a checkpoint", 600)
        folder, node = on_a_node_to_lose(command)[0]
        assert f"on {node}, Ray" in status(command)
        ray.lose_node(node, processes_of(folder))
        process.kill()  # the study, too, by SIGKILL
        process.wait()
        process = command.start("--engine", "ray")
        assert process.wait(2400) == 0, command.output()
    finally:
        process.kill()
    print(command.output())
    lost = records(command)[folder]
    assert lost.starts == 2 and lost.node != node and lost.lost_at[0].startswith("step-")
    assert all(record.state == "done" for record in records(command).values()) and len(records(command)) == 12
    assert_equal(local, command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_study_with_a_ray_of_its_own_that_is_ended_saves_and_the_same_command_resumes(
    tmp_path: Path, number: signal.Signals
) -> None:
    command = Command(tmp_path / "own", {**STUDY, "ray": {"address": "local"}})
    words = ["--out", str(command.out), "--engine", "ray", "--only", "pretrain-conv-seed0"]
    start = [sys.executable, "-m", "recipes", "run", str(command.file), *words]
    process = subprocess.Popen(start, cwd=ROOT, start_new_session=True)
    try:
        wait_for(lambda: list(command.out.glob("runs/*/checkpoints/step-*")), "no checkpoint", 300)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does, to all processes of the group
        else:
            process.kill()
        assert process.wait(120) == (128 + number if number == signal.SIGINT else -number)
    finally:
        process.kill()
    (folder,) = (command.out / "runs").iterdir()
    wait_for(lambda: not processes_of(folder), "processes are left", 90)
    assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"
    assert subprocess.run(start, cwd=ROOT, check=False, timeout=600).returncode == 0
    assert json.loads((folder / "result.json").read_text())["status"] == "finished"
    assert "resum" in (folder / "log.txt").read_text()
