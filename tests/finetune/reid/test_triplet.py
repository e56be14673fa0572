"""Tests of the triplet loss: naive loop, margin, gradient at equal features, two processes compared with one."""

import math

import pytest
import torch

from finetune.reid import triplet
from finetune.reid.triplet import batch_hard_triplet


class OneOfTwo:
    """A fake torch.distributed for process `rank` of two, which hold `shards` of a batch."""

    def __init__(self, rank, features, labels):
        self.rank, self.shards = rank, {torch.float32: features.chunk(2), torch.int64: labels.chunk(2)}

    def get_rank(self):
        return self.rank

    def all_gather(self, gathered, tensor):
        assert not tensor.requires_grad
        for output, shard in zip(gathered, self.shards[tensor.dtype], strict=True):
            output.copy_(shard)


def naive(features, labels, margin):
    losses = []
    for anchor, identity in zip(features, labels, strict=True):
        distances = [math.dist(anchor.tolist(), other.tolist()) for other in features]
        positive = max(d for d, label in zip(distances, labels, strict=True) if label == identity)
        negative = min(d for d, label in zip(distances, labels, strict=True) if label != identity)
        gap = positive - negative
        losses.append(math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [None, 0.0, 0.3])
def test_batch_hard_mining_matches_the_naive_loop(margin):
    rng = torch.Generator().manual_seed(1)
    features, labels = torch.randn(12, 6, generator=rng), torch.arange(12) // 4
    expected = naive(features, labels.tolist(), margin)
    assert float(batch_hard_triplet(features, labels, margin=margin)) == pytest.approx(expected, rel=1e-4)


def test_close_features_far_from_the_origin_keep_their_distances():
    """|a|^2 + |b|^2 - 2 a.b in float32 is off by some 2 here."""
    near = torch.tensor([[0.0, 0.0], [0.01, 0.0], [0.03, 0.0], [0.03, 0.02]])
    labels = torch.tensor([0, 0, 1, 1])
    far = batch_hard_triplet(near + torch.tensor([1024.0, 0.0]), labels, margin=0.1)
    assert float(far) == pytest.approx(float(batch_hard_triplet(near, labels, margin=0.1)), abs=1e-3)


def test_equal_features_have_a_finite_gradient():
    features = torch.ones(4, 3, requires_grad=True)
    loss = batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]), margin=None)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(math.log(2)) and torch.isfinite(features.grad).all()


def test_distances_of_half_precision_features_are_float32():
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(2))
    loss = batch_hard_triplet(features.bfloat16(), torch.arange(8) // 2, margin=None)
    assert loss.dtype == torch.float32


@pytest.mark.parametrize("margin", [None, 0.5])
def test_gradients_of_two_processes_match_the_full_batch(monkeypatch, margin):
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.randn(8, 5, generator=rng), torch.arange(8) // 2
    weight = torch.randn(5, 3, generator=rng)
    full = weight.clone().requires_grad_()
    expected = batch_hard_triplet(images @ full, labels, margin=margin)
    expected.backward()
    gradients = []
    for rank in range(2):
        monkeypatch.setattr(triplet, "world_size", lambda: 2)
        monkeypatch.setattr(triplet, "distributed", OneOfTwo(rank, images @ weight, labels))
        local = weight.clone().requires_grad_()
        loss = triplet.triplet_over_processes(images.chunk(2)[rank] @ local, labels.chunk(2)[rank], margin=margin)
        loss.backward()
        torch.testing.assert_close(loss, expected)
        gradients.append(local.grad)
    torch.testing.assert_close(sum(gradients) / 2, full.grad)
