"""Changing `train.epochs` of an existing run: accepted if every schedule allows it, otherwise refused with the reason."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import assert_same_run, read_result

Stage = Callable[..., int]
CONSTANT = ("optim.lr=1e-3", "optim.lr_base_batch_size=none", "optim.min_lr=1e-3", "optim.warmup_epochs=1")


def test_run_with_constant_schedule_can_be_extended_with_identical_results(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uninterrupted, extended = tmp_path / "uninterrupted", tmp_path / "extended"
    assert stage("finetune", extended, *CONSTANT) == 0
    weights = (extended / "export" / "model.safetensors").read_bytes()
    assert stage("finetune", extended, *CONSTANT, "train.epochs=3") == 0
    assert (extended / "export-2-epochs" / "model.safetensors").read_bytes() == weights
    assert (
        "train.epochs: 2 before, 3 now. learning rate, weight decay: the same values with both for the 8"
        in capsys.readouterr().out
    )
    assert stage("finetune", uninterrupted, *CONSTANT, "train.epochs=3") == 0
    assert_same_run(uninterrupted, extended)
    assert read_result(extended)["step"] == 12 and "epochs: 3" in (extended / "config.yaml").read_text()
    assert stage("finetune", extended, *CONSTANT, "train.epochs=3") == 0


@pytest.mark.parametrize("name", ["finetune", "pretrain"])
def test_run_with_cosine_schedule_cannot_be_extended(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "run"
    assert stage(name, out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.suffix != ".txt"}
    assert stage(name, out, "train.epochs=3") == 2
    error = capsys.readouterr().err
    assert "its learning rate is a schedule over all epochs" in error and "train.epochs=2 to resume" in error
    assert "of the 8 done it was" in error and f"init={out}" in error
    before.pop("environment.json")
    assert before == {name: (out / name).read_bytes() for name in before}
    assert stage(name, out) == 0


def test_reported_remedies_allow_extending_a_pretraining(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changing = (
        "optim.weight_decay_end=0.4",
        "dino.momentum_teacher_end=1.0",
        "dino.warmup_teacher_temp_epochs=1",
    )
    assert stage("pretrain", tmp_path / "curve", *changing) == 0
    assert stage("pretrain", tmp_path / "curve", *changing, "train.epochs=3") == 2
    error = capsys.readouterr().err
    for remedy in (
        "optim.min_lr equal to the peak rate", "no optim.weight_decay_end",
        "dino.momentum_teacher_end equal to dino.momentum_teacher", "dino.warmup_teacher_temp_epochs=0",
    ):  # fmt: skip
        assert remedy in error
    constant = (*CONSTANT, "optim.weight_decay_end=none", "dino.momentum_teacher=0.9", "dino.momentum_teacher_end=0.9")
    constant = (*constant, "dino.warmup_teacher_temp_epochs=0", "dino.warmup_teacher_temp=0.04")
    assert stage("pretrain", tmp_path / "flat", *constant) == 0, capsys.readouterr().err
    assert stage("pretrain", tmp_path / "flat", *constant, "train.epochs=3") == 0, capsys.readouterr().err


def test_fewer_epochs_than_completed_are_refused(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("finetune", tmp_path / "run", *CONSTANT) == 0
    assert stage("finetune", tmp_path / "run", *CONSTANT, "train.epochs=1") == 2
    assert "has already done 8 steps, and 1 epochs have 4" in capsys.readouterr().err
