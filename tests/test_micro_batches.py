"""`train.micro_batch_size`: a batch split into micro-batches gives the same steps as the full batch."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import read_losses, read_result
from forked_runs import fork_run, read_log
from safetensors.torch import load_file

from common.evaluation import inference
from common.training.micro_batches import micro_batches
from pretrain.train import Pretraining

Stage = Callable[..., int]

MIXED = ("augment.mixup=0.8", "augment.cutmix=1.0", "augment.aug_repeats=2", "ema_decay=0.9")
# Where a gradient is 0 up to rounding (the bias of an attention key), AdamW would divide rounding errors by rounding errors.
ADAMW = ("optim.name=adamw", "optim.eps=1e-4")
CASES = [
    ("pretrain", (*ADAMW[1:], "dino.centering=mean", "optim.lr=2e-4")),
    ("pretrain", (*ADAMW[1:], "dino.centering=sinkhorn", "optim.lr=2e-4")),
    ("finetune", ADAMW),
    ("finetune", (*ADAMW, "objective=token_labels", "model.name=volo_mini", "model.patch_size=2")),
    ("finetune", ("optim.name=sam", "optim.base=sgd", "optim.lr=0.01", *MIXED)),
]


def assert_close(expected: Path, actual: Path) -> None:
    expected_state, actual_state = (
        load_file(sorted((out / "checkpoints").glob("step-*"))[-1] / "state.safetensors") for out in (expected, actual)
    )
    for name, tensor in expected_state.items():
        assert torch.allclose(tensor, actual_state[name], rtol=1e-4, atol=2e-6), name
    assert read_losses(actual) == pytest.approx(read_losses(expected), rel=1e-5)


@pytest.mark.parametrize(("name", "overrides"), CASES)
def test_micro_batches_give_the_weights_of_the_full_batch(
    stage: Stage, tmp_path: Path, name: str, overrides: tuple[str, ...]
) -> None:
    """20 images as 6 + 6 + 6 + 2: equal weights, moments, teacher, center and losses, up to rounding, after 8 steps."""
    assert stage(name, tmp_path / "full", *overrides) == 0
    assert stage(name, tmp_path / "micro", *overrides, "train.micro_batch_size=6") == 0
    assert_close(tmp_path / "full", tmp_path / "micro")


@pytest.mark.parametrize(("size", "parts"), [(None, [20]), (4, [8, 8, 4]), (16, [20])])
def test_color_on_the_device_takes_no_more_images_at_a_time(size: int | None, parts: list[int]) -> None:
    """On a GPU: 2 views of 10 images, as 4 + 4 + 2; the color of an image depends on no other."""
    found = []

    def color(images: torch.Tensor, parameters: torch.Tensor, *, sigma_limit: float) -> torch.Tensor:
        found.append(len(images))
        return images + parameters[:, :, None, None]

    config = SimpleNamespace(train=SimpleNamespace(micro_batch_size=size), crops=SimpleNamespace(blur_sigma=(0.1, 2)))
    block, parameters = torch.arange(2 * 10 * 3 * 4).view(2, 10, 3, 2, 2), torch.arange(20).view(2, 10, 1)
    colored = Pretraining._augment_color(SimpleNamespace(color=color, config=config), block, parameters)  # type: ignore[arg-type]
    assert found == parts and torch.equal(colored, block + parameters[..., None, None])


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_evaluations_take_no_more_images_at_a_time_than_training(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A batch that does not fit into memory for a step may not fit for an evaluation, either."""
    sizes, build = [], inference.build_evaluation_loader

    def note_size(split: Any, transform: Any, batch_size: int, **options: Any) -> Any:
        sizes.append(batch_size)
        return build(split, transform, batch_size, **options)

    monkeypatch.setattr(inference, "build_evaluation_loader", note_size)
    assert stage(name, tmp_path / "run", "train.epochs=1", "train.micro_batch_size=6") == 0
    assert set(sizes) == {6}


def test_micro_batches_on_two_processes_give_the_weights_of_the_full_batch(tmp_path: Path) -> None:
    """Gradients are synchronized once per step, with the last micro-batch."""
    full, micro = tmp_path / "full", tmp_path / "micro"
    assert fork_run("finetune", full, *ADAMW, *MIXED, processes=2) == 0, read_log(full)
    assert fork_run("finetune", micro, *ADAMW, *MIXED, "train.micro_batch_size=4", processes=2) == 0, read_log(micro)
    assert_close(full, micro)


def test_batch_norm_with_micro_batches_is_warned_about(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("finetune", tmp_path / "run", "model.stem=conv", "train.micro_batch_size=6", "train.epochs=1") == 0
    assert "batch norm, which normalizes over the 6 images" in capsys.readouterr().out
    assert read_result(tmp_path / "run")["status"] == "finished"


def test_micro_batches_cover_the_batch_weighted_by_their_images() -> None:
    micro = list(micro_batches(20, 6))
    assert [list(range(20))[part.rows] for part in micro] == [
        list(range(0, 6)), list(range(6, 12)), list(range(12, 18)), [18, 19],
    ]  # fmt: skip
    assert sum(part.share for part in micro) == pytest.approx(1) and micro[-1].share == 0.1
    assert [part.is_last for part in micro] == [False, False, False, True]
    (full,) = micro_batches(20, None)
    assert full.rows == slice(0, 20) and full.share == 1 and full.is_last


@pytest.mark.parametrize("value", [0, 1, 7])
def test_micro_batch_that_would_split_a_pair_is_refused(
    stage: Stage, tmp_path: Path, value: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("finetune", tmp_path / "run", f"train.micro_batch_size={value}") == 2
    assert f"train.micro_batch_size: {value} must be even" in capsys.readouterr().err


def test_loss_over_the_full_batch_refuses_micro_batches(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("finetune.classification.Classification.supports_micro_batches", False)
    assert stage("finetune", tmp_path / "run", "train.micro_batch_size=4") == 2
    assert "train.micro_batch_size = 4" in capsys.readouterr().err
