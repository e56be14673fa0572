"""The files of a run folder: written whole, cut back to a checkpoint."""

import json
from pathlib import Path

import pytest
from conftest import RECIPES

from common.config import load, to_yaml
from common.errors import UserError
from common.training.run_folder import RunFolder
from finetune.config import FinetuneConfig


def test_torn_lines_and_lines_beyond_the_checkpoint_go(tmp_path: Path) -> None:
    path = tmp_path / "run"
    folder = RunFolder(path, None, "finetune")
    path.mkdir()
    for step in (1, 2, 3):
        folder.log({"step": step, "loss": 1 / step})
    whole = (path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (path / "metrics.jsonl").write_text(whole[0] + "\0\0\0\n" + '{"loss": 1}\n' + whole[1] + whole[2] + whole[0][:-5])
    folder.cut_log(2)
    assert (path / "metrics.jsonl").read_text() == whole[0] + whole[1]
    folder.cut_log(-1)
    assert (path / "metrics.jsonl").read_text() == ""


def test_a_line_that_holds_no_finite_number_is_kept(tmp_path: Path) -> None:
    """A diverged loss is a result."""
    folder = RunFolder(tmp_path / "run", None, "finetune")
    folder.path.mkdir()
    folder.log({"step": 1, "loss": float("nan")})
    folder.cut_log(1)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == '{"step": 1, "loss": null}\n'


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"status": 3}', '{"status": "fini'])
def test_a_result_that_is_none_is_named_and_left(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path / "run", None, "finetune")
    folder.path.mkdir()
    (folder.path / "result.json").write_text(text)
    with pytest.raises(UserError, match=r"result\.json: not the result of a run .*Delete only this file"):
        folder.result()


def test_a_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", None, "finetune")
    folder.path.mkdir()
    folder.write("result.json", json.dumps({"status": "finished"}))
    assert folder.result() == {"status": "finished"} and [path.name for path in folder.path.iterdir()] == [
        "result.json"
    ]
    folder.forget_result()
    assert folder.result() is None


OURS = (
    "checkpoints", "metrics.jsonl", "environment.json", "overrides.txt", "data.json", "export", "predictions.parquet"
)  # fmt: skip


@pytest.mark.parametrize("name", [*OURS, "config.yaml"])
def test_a_folder_that_holds_somebody_elses_file_is_refused(tmp_path: Path, name: str) -> None:
    """Each of these would be written over."""
    (tmp_path / name).write_text("my: precious")
    with pytest.raises(UserError, match=f"out = {tmp_path}: not a run folder of this project"):
        RunFolder(tmp_path, None, "finetune")
    assert (tmp_path / name).read_text() == "my: precious"


def test_a_folder_with_files_of_other_names_is_taken(tmp_path: Path) -> None:
    for name in ("log.txt", "lock", "run.lock", "slurm-1.out", "notes"):
        (tmp_path / name).write_text("")
    assert not RunFolder(tmp_path, None, "finetune").holds_recipe()


@pytest.mark.parametrize("begun", ["metrics.jsonl", "labels-00000.safetensors", "predictions.parquet"])
def test_a_run_of_another_stage_is_refused_in_one_line(tmp_path: Path, begun: str) -> None:
    (tmp_path / "config.yaml").write_text("# stage: token_labels\nout: there\n")
    RunFolder(tmp_path, None, "finetune")  # not begun: nothing is lost
    (tmp_path / begun).write_text("")
    with pytest.raises(UserError, match="holds a run of the stage token_labels, not of finetune"):
        RunFolder(tmp_path, None, "finetune")


@pytest.mark.parametrize("epochs", ["abc", "[1]", "0", "-5", "1.5"])
def test_epochs_that_no_run_had_are_another_recipe(tmp_path: Path, epochs: str) -> None:
    config = load(FinetuneConfig, RECIPES / "digits" / "finetune.yaml")
    (tmp_path / "config.yaml").write_text("# stage: finetune\n" + to_yaml(config))
    (tmp_path / "metrics.jsonl").touch()
    assert RunFolder(tmp_path, config, "finetune").epochs_before is None
    text = (tmp_path / "config.yaml").read_text()
    assert "\n  epochs: 9\n" in text
    (tmp_path / "config.yaml").write_text(text.replace("\n  epochs: 9\n", f"\n  epochs: {epochs}\n"))
    with pytest.raises(UserError, match="holds a run of another recipe"):
        RunFolder(tmp_path, config, "finetune")


def test_lines_that_are_lost_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = RunFolder(tmp_path, None, "finetune")
    folder.cut_log(-1)
    assert not caplog.text
    folder.cut_log(5, is_expected=True)
    assert f"{tmp_path / 'metrics.jsonl'} has no line up to step 5" in caplog.text
    folder.log({"step": 1})
    caplog.clear()
    folder.cut_log(5, is_expected=True)
    assert not caplog.text


def test_a_result_of_endless_depth_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, None, "finetune")
    (tmp_path / "result.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match=r"result\.json: not the result of a run"):
        folder.result()
