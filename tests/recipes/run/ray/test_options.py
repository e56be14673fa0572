"""What the command line, the status and a plan say about Ray: options that it does not have, nodes of runs, node-hours."""

import os
from pathlib import Path

import pytest

from common.errors import UserError
from recipes.run import engines, node_hours
from recipes.run.build_engine import EngineOptions
from recipes.run.ray.engine import task_environment
from recipes.run.ray.tasks import TaskRecord, read_record, record_path, write_record
from recipes.run.states import lock_run_folder, note_end
from recipes.run.status import status_of
from recipes.study.ray_section import RayEntry
from recipes.study.resources import Resources
from recipes.study.slurm_section import SlurmEntry


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            EngineOptions(ray_file=Path("a.yaml")),
            "--ray: is for --engine ray, and the engine is local. Add --engine ray.",
        ),
        (EngineOptions("slurm", ray_file=Path("a.yaml")), "--ray: is for --engine ray, and the engine is slurm"),
        (EngineOptions("ray", slurm_file=Path("a.yaml")), "--slurm: is for --engine slurm, and the engine is ray"),
        (EngineOptions("ray", detach=True), "--detach: is for --engine slurm, and the engine is ray"),
        (EngineOptions("ray", accelerate_args=("--multi_gpu",)), "--accelerate-args: with --engine ray the processes"),
        (EngineOptions("ray", no_prefork=True), "--no-prefork: with --engine ray no run is forked"),
    ],
)
def test_options_that_an_engine_does_not_have_are_refused(options: EngineOptions, message: str) -> None:
    with pytest.raises(UserError) as error:
        options.check()
    assert message in str(error.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a run of a study that Ray has."""
    (tmp_path / "ray").mkdir()
    place = tmp_path / "runs" / "pretrain-1"
    place.mkdir(parents=True)
    return place


def test_the_status_of_a_run_is_its_node_or_when_ray_got_it(folder: Path) -> None:
    note_end(folder, "exit code 3")  # of an earlier start
    write_record(folder, TaskRecord("queued", since=0.0))
    status = status_of(folder, None, {})
    assert status.state == "queued" and status.detail.startswith("given to Ray at 19")
    lock = lock_run_folder(folder)
    assert lock is not None
    write_record(folder, TaskRecord("started", node="n2"))
    assert status_of(folder, None, {}).detail == "on n2, Ray"
    os.close(lock)
    (folder / "log.txt").unlink()
    assert status_of(folder, None, {}).state != "running"  # its node was lost


def test_a_damaged_record_counts_as_none(folder: Path) -> None:
    write_record(folder, TaskRecord("done", lost_at=("step-1",)))
    assert read_record(folder) == TaskRecord("done", lost_at=("step-1",))
    record_path(folder).write_text("{")
    assert read_record(folder) is None


def test_a_run_has_the_variables_of_the_command_but_those_of_ray_and_of_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HOME", "RAY_ADDRESS", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "here")
    variables = task_environment(Resources(cpus_per_process=3))
    assert variables["HF_HOME"] == "here" and variables["OMP_NUM_THREADS"] == "3"
    assert not {"RAY_ADDRESS", "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ACCELERATE_USE_CPU"} & variables.keys()
    assert task_environment(Resources(processes_per_node=2))["ACCELERATE_USE_CPU"] == "true"
    assert "ACCELERATE_USE_CPU" not in task_environment(Resources(processes_per_node=2, gpus_per_node=2))


def test_node_hours_on_ray_are_those_of_nodes_that_runs_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_hours, "available_cores", lambda: 8)
    monkeypatch.setattr(engines, "available_cores", lambda: 8)
    monkeypatch.setattr(node_hours, "visible_devices", lambda: ())
    (line,) = ["".join(node_hours.node_hours({"pretrain": 8.0}, SlurmEntry(), RayEntry(cpus_per_process=2)))]
    assert "2 with --engine ray (nodes like this machine, each with 4 runs at a time)" in line
    monkeypatch.setattr(node_hours, "visible_devices", lambda: ("0", "1"))
    line = "".join(node_hours.node_hours({"pretrain": 8.0}, SlurmEntry(), RayEntry(gpus_per_node=2)))
    assert "4 with --engine ray (nodes like this machine, each with 1 run at a time)" in line
