"""`train.micro_batch`: a batch that goes through in parts takes the same steps as the whole one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import read_losses, read_result
from forked_runs import log, run
from safetensors.torch import load_file

from common.training.micro_batches import micro_batches

Stage = Callable[..., int]

MIXED = ("augment.mixup=0.8", "augment.cutmix=1.0", "augment.repeats=2", "ema_decay=0.9")
# Where a gradient is 0 but for rounding (a key's bias), AdamW would divide rounding by rounding.
ADAMW = ("optim.name=adamw", "optim.eps=1e-4")
CASES = [
    ("pretrain", (*ADAMW[1:], "dino.centering=mean", "optim.lr=2e-4")),
    ("pretrain", (*ADAMW[1:], "dino.centering=sinkhorn", "optim.lr=2e-4")),
    ("finetune", ADAMW),
    ("finetune", (*ADAMW, "objective=token_labels", "model.name=volo_mini", "model.patch_size=2")),
    ("finetune", ("optim.name=sam", "optim.base=sgd", "optim.lr=0.01", *MIXED)),
]


def assert_close(one: Path, other: Path) -> None:
    mine, theirs = (
        load_file(sorted((out / "checkpoints").glob("step-*"))[-1] / "state.safetensors") for out in (one, other)
    )
    for name, tensor in mine.items():
        assert torch.allclose(tensor, theirs[name], rtol=1e-4, atol=2e-6), name
    assert read_losses(other) == pytest.approx(read_losses(one), rel=1e-5)


@pytest.mark.parametrize(("name", "overrides"), CASES)
def test_parts_give_the_weights_of_the_whole(
    stage: Stage, tmp_path: Path, name: str, overrides: tuple[str, ...]
) -> None:
    """20 images as 6 + 6 + 6 + 2: weights, moments, teacher, centre and losses, to rounding, after 8 steps."""
    assert stage(name, tmp_path / "whole", *overrides) == 0
    assert stage(name, tmp_path / "parts", *overrides, "train.micro_batch=6") == 0
    assert_close(tmp_path / "whole", tmp_path / "parts")


def test_parts_on_two_processes_give_the_weights_of_the_whole(tmp_path: Path) -> None:
    """Gradients go to the other process once a step, with the last part."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run("finetune", whole, *ADAMW, *MIXED, processes=2) == 0, log(whole)
    assert run("finetune", parts, *ADAMW, *MIXED, "train.micro_batch=4", processes=2) == 0, log(parts)
    assert_close(whole, parts)


def test_batch_norm_is_warned_of(stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage("finetune", tmp_path / "run", "model.stem=conv", "train.micro_batch=6", "train.epochs=1") == 0
    assert "batch norm, which sees one part of 6 images" in capsys.readouterr().out
    assert read_result(tmp_path / "run")["verdict"] == "finished"


def test_parts_cover_the_batch_and_weigh_as_their_images() -> None:
    parts = list(micro_batches(20, 6))
    assert [list(range(20))[part.rows] for part in parts] == [
        list(range(0, 6)), list(range(6, 12)), list(range(12, 18)), [18, 19],
    ]  # fmt: skip
    assert sum(part.share for part in parts) == pytest.approx(1) and parts[-1].share == 0.1
    assert [part.is_last for part in parts] == [False, False, False, True]
    (whole,) = micro_batches(20, None)
    assert whole.rows == slice(0, 20) and whole.share == 1 and whole.is_last


@pytest.mark.parametrize("value", [0, 1, 7])
def test_a_part_that_would_tear_a_pair_apart_is_refused(
    stage: Stage, tmp_path: Path, value: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("finetune", tmp_path / "run", f"train.micro_batch={value}") == 2
    assert f"train.micro_batch: {value} must be even" in capsys.readouterr().err


def test_a_loss_that_compares_images_is_refused(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("finetune.classification.Classification.divisible", False)
    assert stage("finetune", tmp_path / "run", "train.micro_batch=4") == 2
    assert "train.micro_batch = 4" in capsys.readouterr().err
