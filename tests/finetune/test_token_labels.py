"""Tests of token labeling: the loss compared with a loop over tokens, MixToken's box and its effect on the targets."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import problems_of
from torch import nn

from common.data.augment.erasing import Erasures
from common.data.augment.supervised import AugmentConfig
from common.data.loading.loader import Batch
from common.data.token_labels.reader import TokenLabelBatch
from common.errors import UserError
from common.evaluation.config import LinearConfig
from common.training.config import TrainConfig
from finetune.config import FinetuneConfig, TokenLabelsConfig
from finetune.objectives import build_objective
from finetune.token_labels import TokenLabels, _interval, draw_box

GRID, CLASSES = (4, 6), 5
TOKENS = GRID[0] * GRID[1]


class Network(nn.Module):
    """Classify tokens by their color; the box is exchanged before the classifier, the token logits are exchanged back after it."""

    token_grid = GRID

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.tokens = nn.Parameter(torch.randn(3, CLASSES, generator=generator))
        self.images = nn.Parameter(torch.randn(3, CLASSES, generator=generator))

    def forward(self, images, box):
        top, left, bottom, right = box.tolist() or (0, 0, 0, 0)
        tokens = nn.functional.adaptive_avg_pool2d(images, GRID).permute(0, 2, 3, 1)
        tokens = self.exchange(tokens, top, left, bottom, right)
        token_logits = self.exchange(tokens @ self.tokens, top, left, bottom, right)
        return tokens.mean((1, 2)) @ self.images, token_logits.flatten(1, 2)

    @staticmethod
    def exchange(values, top, left, bottom, right):
        partner = [index ^ 1 for index in range(len(values))]
        mixed = values.clone()
        mixed[:, top:bottom, left:right] = values[partner][:, top:bottom, left:right]
        return mixed


def make_objective(**section):
    config = FinetuneConfig.model_construct(  # without the rule that dense targets need a folder of labels
        out="none", objective="token_labels", token_labels=TokenLabelsConfig.model_construct(**section)
    )
    splits = SimpleNamespace(class_names=tuple("abcde"), subset=None, train=None)
    objective = build_objective(config, splits)
    assert isinstance(objective, TokenLabels)
    objective.token_grid = GRID
    return objective


def batch(count=4, with_token_labels=False):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (1, count, 3, 8, 12), generator=generator).to(torch.uint8)
    noise = torch.full((3 * 2 * 2,), 7.0)
    labels = None
    if with_token_labels:
        probabilities = torch.rand(count, *GRID, CLASSES, generator=generator).softmax(-1).half()
        classes = torch.arange(CLASSES).expand(count, *GRID, -1).int()
        labels = TokenLabelBatch(classes, probabilities, torch.eye(3)[:2].expand(count, 2, 3))
    erasures = Erasures(torch.tensor([[1, 0, 0, 2, 2]]), noise)
    return Batch([pixels], [], erasures, torch.arange(count) % CLASSES, torch.arange(count), token_labels=labels)


def cross_entropy(logits, target):
    return -sum(target[c] * logits.log_softmax(0)[c] for c in range(CLASSES))


@pytest.mark.parametrize("with_token_labels", [False, True])
@pytest.mark.parametrize("class_target", ["label", "dense"])
@pytest.mark.parametrize("mix_token", [0.0, 1.0])
def test_loss_matches_the_loop_over_tokens(with_token_labels, class_target, mix_token):
    objective = make_objective(weight=0.3, class_weight=0.8, class_target=class_target, mix_token=mix_token)
    samples, network = batch(with_token_labels=with_token_labels), Network()
    step = next(step for step in range(20) if 0 < area(draw_box(GRID, 1.0, 0, epoch=2, step=step)) < TOKENS)
    inputs = objective.inputs(samples, epoch=2, step=step)
    images, box = inputs[0], tuple(inputs[3][0].tolist())
    assert (images[1, :, :2, :2] == 7).all()
    assert box == (draw_box(GRID, 1.0, 0, epoch=2, step=step) if mix_token else ())
    class_logits, token_logits = network(images, inputs[3][0])
    class_logits, token_logits = class_logits.detach(), token_logits.detach()
    own_fraction, total = 1 - (area(box) if box else 0) / TOKENS, 0.0
    class_targets = [torch.eye(CLASSES)[label] * 0.9 + 0.1 / CLASSES for label in samples.labels]
    tokens = [[target] * TOKENS for target in class_targets]
    if with_token_labels:
        tokens = [
            [0.9 * labels + 0.1 / CLASSES for labels in image.flatten(0, 1).float()]
            for image in samples.token_labels[1]
        ]
    if class_target == "dense":
        class_targets = [sum(image) / TOKENS for image in tokens]
    for i in range(4):
        target = own_fraction * class_targets[i] + (1 - own_fraction) * class_targets[i ^ 1]
        total += 0.8 * cross_entropy(class_logits[i], target) / 4
        for n in range(TOKENS):
            total += 0.3 * cross_entropy(token_logits[i, n], tokens[i][n]) / (4 * TOKENS)
    assert float(objective.loss(network, inputs).detach()) == pytest.approx(float(total), rel=1e-4)


def area(box):
    top, left, bottom, right = box
    return (bottom - top) * (right - left)


def test_boxes_depend_on_seed_epoch_and_step():
    def draw(seed=0, epoch=0, step=0):
        return draw_box((14, 14), 1.0, seed, epoch=epoch, step=step)

    assert draw() == draw()
    assert len({draw(seed=seed) for seed in range(8)} | {draw(epoch=epoch) for epoch in range(8)}) > 8
    assert len({draw(step=step) for step in range(50)}) > 40


def test_boxes_lie_in_the_grid_uniformly_with_areas_of_a_beta_distribution():
    grid = (14, 10)
    boxes = np.array([draw_box(grid, 1.0, 5, epoch=0, step=step) for step in range(4000)])
    top, left, bottom, right = boxes.T
    assert (top >= 0).all() and (top <= bottom).all() and (bottom <= 14).all()
    assert (left >= 0).all() and (left <= right).all() and (right <= 10).all()
    covered = np.zeros(grid)
    for first_row, first_column, last_row, last_column in boxes.tolist():
        covered[first_row:last_row, first_column:last_column] += 1 / len(boxes)
    # Boxes span center - half to center + half (exclusive): the coverage is symmetric about the left edge of the center token.
    inner = covered[:-1, :-1]
    assert np.abs(inner - inner[::-1]).max() < 0.05 and np.abs(inner - inner[:, ::-1]).max() < 0.05
    # An unclipped box of area 1 - lambda covers half of the grid on average; clipping at the border removes some of it.
    unclipped = boxes[(top > 0) & (left > 0) & (bottom < 14) & (right < 10)]
    assert 0.25 < covered.mean() < 0.45 and len(unclipped) > 400
    large = np.mean([area(draw_box(grid, 50.0, 5, epoch=0, step=step)) for step in range(500)]) / 140
    sides = ((tokens, int(tokens * 0.5**0.5) // 2) for tokens in grid)
    expected = [np.mean([min(c + half, n) - max(c - half, 0) for c in range(n)]) / n for n, half in sides]
    assert large == pytest.approx(np.prod(expected), abs=0.03), (
        "alpha 50 draws areas near one half, less what is clipped at the border"
    )


@pytest.mark.parametrize("tokens", [3, 10, 14])
def test_box_intervals_match_volos_code(tokens):
    """VOLO's rand_bbox: cut = int(side * sqrt(1 - lambda)); from center - cut // 2 to center + cut // 2, clipped at the border."""
    for length in range(tokens + 1):
        for center in range(tokens):
            expected = tuple(np.clip([center - length // 2, center + length // 2], 0, tokens))
            assert _interval((center + 0.5) / tokens, length, tokens) == expected


def test_unclipped_boxes_have_even_sides():
    boxes = np.array([draw_box((14, 14), 1.0, 5, epoch=0, step=step) for step in range(1000)])
    top, left, bottom, right = boxes.T
    unclipped = (top > 0) & (left > 0) & (bottom < 14) & (right < 14)
    assert (
        unclipped.sum() > 100
        and not ((bottom - top)[unclipped] % 2).any()
        and not ((right - left)[unclipped] % 2).any()
    )


def test_odd_batch_size_is_refused_only_with_mixtoken():
    with pytest.raises(UserError, match="even number"):
        make_objective().inputs(batch(3), epoch=0, step=0)
    make_objective(mix_token=0.0).inputs(batch(3), epoch=0, step=0)


def test_an_odd_batch_is_refused_before_anything_is_read():
    """A dry run and the plan of a study accepted it, and every run failed at its first step."""
    odd, unmixed = {"batch_size": 33}, {"mixup": 0, "cutmix": 0}
    labels = {"objective": "token_labels", "augment": unmixed}
    for config, keys in ((FinetuneConfig, {}), (FinetuneConfig, labels), (LinearConfig, {"init": None})):
        assert problems_of(config, out="none", train=odd, **keys).keys() == {"train.batch_size"}
    assert not problems_of(FinetuneConfig, out="none", train=odd, augment=unmixed)
    assert not problems_of(FinetuneConfig, out="none", train=odd, token_labels={"mix_token": 0}, **labels)


@pytest.mark.parametrize("objective", ["classification", "token_labels"])
def test_a_process_with_an_odd_part_of_the_batch_is_refused_before_the_first_step(objective: str) -> None:
    """A batch of 6 on two processes was accepted, and failed in the first step."""
    unmixed = {"mixup": 0.0, "cutmix": 0.0}
    augment = AugmentConfig(**unmixed if objective == "token_labels" else {})
    config = FinetuneConfig.model_construct(
        out="none", objective=objective, train=TrainConfig.model_construct(batch_size=6), augment=augment
    )
    splits = SimpleNamespace(class_names=tuple("abcde"), subset=None, train=range(12))
    built = build_objective(config, splits)
    assert built.build_sampler(rank=0, num_processes=3).steps_per_epoch == 2
    with pytest.raises(UserError, match=r"each process gets 3 images.*even number per process"):
        built.build_sampler(rank=0, num_processes=2)
    off = {"augment": AugmentConfig(**unmixed), "token_labels": TokenLabelsConfig.model_construct(mix_token=0.0)}
    built = build_objective(config.model_copy(update=off), splits)
    assert built.build_sampler(rank=0, num_processes=2).steps_per_epoch == 2


def test_invalid_values_of_the_section_are_reported():
    invalid = {"weight": 0, "class_weight": 0, "class_target": "dense", "mix_token": -1}
    assert problems_of(TokenLabelsConfig, **invalid).keys() == {"weight", "class_target", "mix_token"}
    assert not problems_of(TokenLabelsConfig)
    assert problems_of(FinetuneConfig, out="none", token_labels={"weight": 1.0}).keys() == {"token_labels"}
    assert problems_of(FinetuneConfig, out="none", objective="token_labels").keys() == {"augment.mixup"}
