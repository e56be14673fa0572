"""Tests of the triplet loss: a naive loop, the margin, its gradient where features meet, two processes against one."""

import math

import pytest
import torch

from finetune.reid import triplet
from finetune.reid.triplet import batch_hard_triplet


class OneOfTwo:
    """Stand for torch.distributed on process `rank` of two, which hold `shares` of a batch."""

    def __init__(self, rank, features, labels):
        self.rank, self.shares = rank, {torch.float32: features.chunk(2), torch.int64: labels.chunk(2)}

    def is_available(self):
        return True

    is_initialized = is_available

    def get_world_size(self):
        return 2

    def get_rank(self):
        return self.rank

    def all_gather(self, parts, mine):
        assert not mine.requires_grad
        for part, share in zip(parts, self.shares[mine.dtype], strict=True):
            part.copy_(share)


def naive(features, labels, margin):
    losses = []
    for anchor, mine in zip(features, labels, strict=True):
        distances = [math.dist(anchor.tolist(), other.tolist()) for other in features]
        positive = max(d for d, label in zip(distances, labels, strict=True) if label == mine)
        negative = min(d for d, label in zip(distances, labels, strict=True) if label != mine)
        gap = positive - negative
        losses.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [None, 0.0, 0.3])
def test_batch_hard_mining_is_the_naive_loop(margin):
    draws = torch.Generator().manual_seed(1)
    features, labels = torch.randn(12, 6, generator=draws), torch.arange(12) // 4
    expected = naive(features, labels.tolist(), margin)
    assert float(batch_hard_triplet(features, labels, margin=margin)) == pytest.approx(expected, rel=1e-4)


def test_features_that_meet_have_a_finite_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), margin=None)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2)) and torch.isfinite(features.grad).all()


def test_half_precision_features_are_measured_in_float32():
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(2))
    loss = batch_hard_triplet(features.bfloat16(), torch.arange(8) // 2, margin=None)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("margin", [None, 0.5])
def test_two_processes_learn_what_one_learns_from_the_whole_batch(monkeypatch, margin):
    draws = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, 5, generator=draws), torch.arange(8) // 2
    weight = torch.randn(5, 3, generator=draws)
    whole = weight.clone().requires_grad_()
    expected = batch_hard_triplet(images @ whole, labels, margin=margin)
    expected.backward()
    gradients = []
    for rank in range(2):
        monkeypatch.setattr(triplet, "distributed", OneOfTwo(rank, images @ weight, labels))
        mine = weight.clone().requires_grad_()
        loss = triplet.triplet_over_processes(images.chunk(2)[rank] @ mine, labels.chunk(2)[rank], margin=margin)
        loss.backward()
        torch.testing.assert_close(loss, expected)
        gradients.append(mine.grad)
    torch.testing.assert_close(sum(gradients) / 2, whole.grad)
