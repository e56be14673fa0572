"""Runs with TensorBoard: same numbers as without, a resumed run continues its curves, only the main process logs, no package."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import assert_same_run, read_result
from forked_runs import Fault, fork_run

from common.training import tracker
from recipes.stages import resolve_by_config

Stage = Callable[..., int]
RECIPE = Path(__file__).parents[1] / "recipes" / "digits" / "finetune.yaml"
TENSORBOARD = "train.tracker=tensorboard"


def read_events(out: Path) -> tuple[dict[str, list[tuple[int, float]]], Any]:
    """Return the curves in a run's folder, and the reader."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(out / "tensorboard"))
    reader.Reload()
    return {
        name: [(event.step, event.value) for event in reader.Scalars(name)] for name in reader.Tags()["scalars"]
    }, reader


def lines(out: Path, name: str) -> list[tuple[int, float]]:
    """Return the steps and values of a metric in metrics.jsonl."""
    found = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], pytest.approx(line[name])) for line in found if name in line]


@pytest.mark.parametrize("name", ["pretrain", "finetune", "linear"])
def test_curves_recipe_and_status_are_in_tensorboard_and_change_no_number(
    stage: Stage, tmp_path: Path, name: str
) -> None:
    pytest.importorskip("tensorboard")
    with_tracker, without = tmp_path / "with", tmp_path / "without"
    assert stage(name, without) == stage(name, with_tracker, TENSORBOARD) == 0
    if name != "linear":
        assert_same_run(without, with_tracker)
    curves, reader = read_events(with_tracker)
    assert curves["loss"] == lines(with_tracker, "loss") and len(curves["loss"]) == 8
    metric = {"pretrain": "knn_top1"}.get(name, "validation_top1")
    assert curves[metric] == lines(with_tracker, metric)
    results = read_result(with_tracker)["metrics"]
    assert {name: curves[f"result/{name}"] for name in results} == {
        name: [(8, pytest.approx(value, nan_ok=True))] for name, value in results.items()
    }
    [status] = reader.Tensors("status/text_summary")
    assert status.step == 8 and status.tensor_proto.string_val[0].startswith(b"finished: ")
    [recipe] = (with_tracker / "tensorboard").glob("*/hparams.yml")
    assert "optim.lr: 0." in recipe.read_text() and not (without / "tensorboard").exists()


def test_a_killed_run_that_resumes_has_every_step_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    out, arguments = tmp_path / "run", (TENSORBOARD, "train.checkpoint_steps=2")
    assert fork_run("finetune", out, *arguments, faults=[Fault("step", 5)], processes=2) < 0
    assert fork_run("finetune", out, *arguments, processes=2) == 0
    curves, _ = read_events(out)
    assert curves["loss"] == lines(out, "loss") and [step for step, _ in curves["loss"]] == list(range(1, 9))
    assert len(list((out / "tensorboard").glob("events*"))) == 2  # of the main process, of two starts


def test_a_missing_package_is_reported_before_anything_is_written(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda _: None)
    assert stage("finetune", tmp_path / "run", "train.tracker=mlflow") == 2
    assert "error: train.tracker = mlflow: the package mlflow is not installed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_the_tracker_is_no_part_of_a_runs_identity() -> None:
    plain, tracked = (resolve_by_config("finetune", RECIPE, words) for words in ((), (TENSORBOARD,)))
    assert plain == tracked and "train.tracker" not in plain
