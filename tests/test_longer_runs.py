"""Another `train.epochs` in the same folder: taken where every schedule allows it, refused with the reason where not."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import assert_same_run, read_result

Stage = Callable[..., int]
CONSTANT = ("optim.lr=1e-3", "optim.lr_batch=none", "optim.min_lr=1e-3", "optim.warmup_epochs=1")


def test_a_constant_schedule_is_made_longer_and_ends_as_if_it_had_been_so_from_the_start(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert stage("finetune", parts, *CONSTANT) == 0
    assert stage("finetune", parts, *CONSTANT, "train.epochs=3") == 0
    assert (
        "train.epochs: 2 before, 3 now. learning rate, weight decay: the same values under both for the 8"
        in capsys.readouterr().out
    )
    assert stage("finetune", whole, *CONSTANT, "train.epochs=3") == 0
    assert_same_run(whole, parts)
    assert read_result(parts)["step"] == 12 and "epochs: 3" in (parts / "config.yaml").read_text()
    assert stage("finetune", parts, *CONSTANT, "train.epochs=3") == 0


@pytest.mark.parametrize("name", ["finetune", "pretrain"])
def test_a_cosine_is_not_made_longer(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "run"
    assert stage(name, out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.suffix != ".txt"}
    assert stage(name, out, "train.epochs=3") == 2
    said = capsys.readouterr().err
    assert "its learning rate follows a curve over all epochs" in said and "train.epochs=2 to go on" in said
    assert "of the 8 done it was" in said and f"init={out}" in said
    before.pop("environment.json")
    assert before == {name: (out / name).read_bytes() for name in before}
    assert stage(name, out) == 0


def test_the_remedies_that_are_told_make_a_pretraining_longer(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changing = (
        "optim.weight_decay_end=0.4",
        "dino.teacher_momentum_end=1.0",
        "dino.teacher_temperature_warmup_epochs=1",
    )
    assert stage("pretrain", tmp_path / "curve", *changing) == 0
    assert stage("pretrain", tmp_path / "curve", *changing, "train.epochs=3") == 2
    said = capsys.readouterr().err
    for remedy in (
        "optim.min_lr equal to the peak rate", "no optim.weight_decay_end",
        "dino.teacher_momentum_end equal to dino.teacher_momentum", "dino.teacher_temperature_warmup_epochs=0",
    ):  # fmt: skip
        assert remedy in said
    constant = (*CONSTANT, "optim.weight_decay_end=none", "dino.teacher_momentum=0.9", "dino.teacher_momentum_end=0.9")
    constant = (*constant, "dino.teacher_temperature_warmup_epochs=0", "dino.teacher_temperature_start=0.04")
    assert stage("pretrain", tmp_path / "flat", *constant) == 0, capsys.readouterr().err
    assert stage("pretrain", tmp_path / "flat", *constant, "train.epochs=3") == 0, capsys.readouterr().err


def test_fewer_epochs_than_are_done_are_refused(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("finetune", tmp_path / "run", *CONSTANT) == 0
    assert stage("finetune", tmp_path / "run", *CONSTANT, "train.epochs=1") == 2
    assert "has done 8 steps already, and 1 epochs have 4" in capsys.readouterr().err
