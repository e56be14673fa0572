"""Class weights and logit adjustment against their formulas, and runs with them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import problems_of, read_losses
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from common.data.augment.mixing import smooth_targets
from common.data.images.collections import PixelImages
from common.data.images.decode import ImageDecoder
from common.data.sources.digits import DigitsSource
from common.data.sources.split import Split
from common.data.splits.subset import Subset
from common.errors import UserError
from common.training.loss_monitor import chance_loss
from common.training.micro_batches import micro_batches
from finetune.config import FinetuneConfig
from finetune.loss import ClassificationLoss, LossConfig, class_weights

Stage = Callable[..., int]
COUNTS = [60, 30, 10]
CORRECTIONS = [
    LossConfig(class_weights="balanced"),
    LossConfig(class_weights="effective_number", beta=0.9),
    LossConfig(logit_adjustment=1.5),
]
KEYS = ["loss.class_weights=balanced", "loss.class_weights=effective_number", "loss.logit_adjustment=1"]


def train_split(counts: list[int]) -> Split:
    """Return black pixels with labels of so many images each."""
    labels = np.repeat(np.arange(len(counts)), counts)
    shapes, blocks = np.ones((len(labels), 2), dtype=np.int64), [np.zeros(3 * len(labels), dtype=np.uint8)]
    images = PixelImages(blocks, shapes, block_length=len(labels), decoder=ImageDecoder())
    return Split(images=images, labels=labels, class_names=tuple(map(str, range(len(counts)))))


def soft_batch(images: int = 8, smoothing: float = 0.1) -> tuple[Tensor, Tensor]:
    """Return logits and mixed, smoothed targets of three classes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (images,), generator=generator)
    targets = torch.lerp(smooth_targets(labels.flip(0), 3, smoothing), smooth_targets(labels, 3, smoothing), 0.7)
    return torch.randn(images, 3, generator=generator), targets


def test_weights_by_hand() -> None:
    assert class_weights(np.array(COUNTS), None) == pytest.approx([100 / 180, 100 / 90, 100 / 30])
    effective = np.array([(1 - 0.9) / (1 - 0.9**count) for count in COUNTS])
    found = class_weights(np.array(COUNTS), 0.9)
    assert found / found[0] == pytest.approx(effective / effective[0])
    assert (found * COUNTS).sum() == pytest.approx(100)
    assert class_weights(np.array(COUNTS), 0.0) == pytest.approx([1, 1, 1])


def corrected(config: LossConfig, counts: list[int] = COUNTS, smoothing: float = 0.1) -> ClassificationLoss:
    """Return the loss over training images of so many of each class."""
    return ClassificationLoss(config, train_split(counts), smoothing=smoothing)


def test_mixed_targets_are_weighted_as_by_pytorch() -> None:
    logits, targets = soft_batch(smoothing=0.0)
    weights = torch.tensor(class_weights(np.array(COUNTS), None), dtype=torch.float32)
    expected = cross_entropy(logits, targets, weight=weights)
    assert float(corrected(LossConfig(class_weights="balanced"), smoothing=0.0)(logits, targets)) == pytest.approx(
        float(expected)
    )


def test_smoothing_has_the_weight_of_its_label() -> None:
    """A mixed, smoothed target is worth what its two images are worth, each by the weight of its label."""
    logits, targets = soft_batch()
    labels = torch.randint(3, (len(logits),), generator=torch.Generator().manual_seed(0))
    weights = torch.tensor(class_weights(np.array(COUNTS), None), dtype=torch.float32)
    parts = [
        weights[own] * cross_entropy(logits, own, label_smoothing=0.1, reduction="none")
        for own in (labels, labels.flip(0))
    ]
    expected = (0.7 * parts[0] + 0.3 * parts[1]).mean()
    assert float(corrected(LossConfig(class_weights="balanced"))(logits, targets)) == pytest.approx(float(expected))


def test_logit_adjustment_adds_the_logarithm_of_the_priors() -> None:
    logits, targets = soft_batch(smoothing=0.0)
    adjusted = logits + 1.5 * torch.tensor([0.6, 0.3, 0.1]).log()
    expected = -(targets * adjusted.log_softmax(1)).sum(1).mean()
    assert float(corrected(LossConfig(logit_adjustment=1.5), smoothing=0.0)(logits, targets)) == pytest.approx(
        float(expected)
    )


@pytest.mark.parametrize("config", [*CORRECTIONS[::2], LossConfig(class_weights="effective_number")])
def test_a_network_that_knows_every_label_predicts_it_whatever_the_smoothing(config: LossConfig) -> None:
    """One class of 1,000: its weight times its 5% of every target outweighed the own class of all other images."""
    loss, logits = corrected(config, [999, 1]), nn.Parameter(torch.zeros(2, 2))
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss(logits, smooth_targets(torch.arange(2), 2, 0.1))
        value.backward()
        return value

    optimizer.step(closure)
    assert logits.argmax(1).tolist() == [0, 1]
    if config.logit_adjustment != 1.5:
        assert logits.softmax(1).tolist() == [
            pytest.approx([0.95, 0.05], abs=5e-3),
            pytest.approx([0.05, 0.95], abs=5e-3),
        ]


def test_without_corrections_the_loss_is_bit_equal_to_the_plain_one() -> None:
    logits, targets = soft_batch()
    loss = corrected(LossConfig())
    assert torch.equal(loss(logits, targets), cross_entropy(logits, targets, reduction="none").mean())
    labels = train_split(COUNTS).labels
    assert labels is not None and loss.chance(labels, 3) == chance_loss(labels, 3, 0.1)


@pytest.mark.parametrize("config", CORRECTIONS)
@pytest.mark.parametrize("size", [1, 3, 4])
def test_micro_batches_give_the_gradient_of_the_batch(config: LossConfig, size: int) -> None:
    loss = corrected(config)
    logits, targets = soft_batch()
    whole, parts = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss(whole, targets).backward()
    for part in micro_batches(len(logits), size):
        (loss(parts[part.rows], targets[part.rows]) * part.share).backward()
    assert whole.grad is not None and parts.grad is not None
    torch.testing.assert_close(parts.grad, whole.grad)


@pytest.mark.parametrize("config", CORRECTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_chance_is_the_loss_of_the_best_constant_prediction(config: LossConfig, smoothing: float) -> None:
    split = train_split(COUNTS)
    assert split.labels is not None
    loss, targets = corrected(config, smoothing=smoothing), smooth_targets(torch.tensor(split.labels), 3, smoothing)
    constant = nn.Parameter(torch.zeros(3))
    optimizer = torch.optim.LBFGS([constant], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        value = loss(constant.expand(len(targets), 3), targets)
        value.backward()
        return value.item()

    optimizer.step(closure)
    assert loss.chance(split.labels, 3) == pytest.approx(closure(), abs=1e-5)


@pytest.mark.parametrize("config", [CORRECTIONS[0], CORRECTIONS[2]])
def test_a_class_without_training_images_is_an_error(config: LossConfig) -> None:
    with pytest.raises(
        UserError, match=r"loss\.(class_weights|logit_adjustment): 1 of the 3 classes .* frequency is 0: '1'"
    ):
        corrected(config, [5, 0, 3])
    corrected(LossConfig(), [5, 0, 3])


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"class_weights": "balanced", "logit_adjustment": 1.0}, "logit_adjustment"),
        ({"class_weights": "balanced", "beta": 0.9}, "beta"),
        ({"class_weights": "effective_number", "beta": 1.0}, "beta"),
        ({"logit_adjustment": -1.0}, "logit_adjustment"),
    ],
)
def test_contradictory_keys(values: dict[str, Any], key: str) -> None:
    assert problems_of(LossConfig, **values).keys() == {key}


def test_smoothing_that_leaves_nothing_of_the_labels_is_refused_with_a_correction() -> None:
    smooth = {"label_smoothing": 1}
    assert problems_of(FinetuneConfig, out="x", augment=smooth, loss={"logit_adjustment": 1.0}).keys() == {
        "augment.label_smoothing"
    }
    assert not problems_of(FinetuneConfig, out="x", augment=smooth)


def test_reidentification_refuses_the_section() -> None:
    found = problems_of(FinetuneConfig, out="runs/x", objective="reid", loss={"class_weights": "balanced"})
    assert "loss" in found and "objective is reid" in found["loss"]


def long_tail(path: Path) -> None:
    """Write a subset of the digits with 3 to 21 images of a class."""
    digits = DigitsSource(decoder=ImageDecoder()).read("train", labeled=True)
    assert digits.labels is not None
    rows = np.sort(np.concatenate([np.flatnonzero(digits.labels == c)[: 3 + 2 * c] for c in range(10)]))
    counts = digits.select(rows).class_counts()
    Subset(indices=rows, num_images=len(digits), class_counts=counts, fingerprint=digits.fingerprint).save(path)


@pytest.mark.parametrize("keys", KEYS)
def test_a_run_in_micro_batches_equals_the_complete_batch(stage: Stage, tmp_path: Path, keys: str) -> None:
    """With mixup and label smoothing, on a subset of unequal classes."""
    long_tail(tmp_path / "long_tail.json")
    words = (
        f"data.subset_file={tmp_path / 'long_tail.json'}",
        "data.images_per_class=none",
        "augment.mixup=0.8",
        keys,
        "train.epochs=1",
    )
    assert stage("finetune", tmp_path / "whole", *words) == 0
    assert stage("finetune", tmp_path / "parts", *words, "train.micro_batch_size=6") == 0
    assert read_losses(tmp_path / "parts") == pytest.approx(read_losses(tmp_path / "whole"), rel=1e-4)
    assert stage("finetune", tmp_path / "plain", *words[:3], "train.epochs=1") == 0
    assert read_losses(tmp_path / "plain")[0] != pytest.approx(read_losses(tmp_path / "whole")[0], rel=1e-3)


def test_token_labels_and_sam_take_class_weights(stage: Stage, tmp_path: Path) -> None:
    volo = ("objective=token_labels", "model.name=volo_mini", "model.patch_size=2", "model.stem=conv")
    for name, words in (("tokens", volo), ("sam", ("optim.name=sam",))):
        assert stage("finetune", tmp_path / name, *words, KEYS[0], "train.epochs=1") == 0
        assert all(map(math.isfinite, read_losses(tmp_path / name)))
