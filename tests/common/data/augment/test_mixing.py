"""Tests of mixup, cutmix and label smoothing against their plain formulas and timm's."""

import numpy as np
import pytest
import torch
from timm.data.mixup import mixup_target
from timm.loss import LabelSmoothingCrossEntropy

from common.data.augment.mixing import Mixing, build_mixing, smooth_targets
from common.data.augment.supervised import AugmentConfig
from common.errors import UserError
from common.rng import generator


def mixing(**values):
    settings = {"mixup": 0.8, "cutmix": 1.0, "switch": 0.5, "smoothing": 0.1, "seed": 3, "num_classes": 5} | values
    return Mixing(**settings)


def batch(count=6, size=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % 5


@pytest.mark.parametrize("alphas", [{"cutmix": 0.0}, {"mixup": 0.0}])
def test_images_and_targets_are_mixed_with_their_neighbour(alphas):
    images, labels = batch()
    partner = [1, 0, 3, 2, 5, 4]
    one_hot = torch.eye(5)[labels] * 0.9 + 0.1 / 5
    for step in range(20):
        mix = mixing(**alphas)
        share, box = mix.draw(16, epoch=1, step=step)
        if box is None:
            expected = share * images + (1 - share) * images[partner]
        else:
            top, bottom, left, right = box
            expected = images.clone()
            expected[:, :, top:bottom, left:right] = images[partner][:, :, top:bottom, left:right]
            assert share == 1 - (bottom - top) * (right - left) / 16**2
        mixed, targets = mix(images.clone(), labels, epoch=1, step=step)
        assert torch.allclose(mixed, expected, atol=1e-6)
        assert torch.allclose(targets, share * one_hot + (1 - share) * one_hot[partner], atol=1e-6)
        assert torch.allclose(targets.sum(dim=1), torch.ones(6))


def test_targets_are_timms_for_a_pair():
    _, labels = batch(2)
    mix = mixing()
    share, _ = mix.draw(16, epoch=0, step=0)
    _, targets = mix(torch.zeros(2, 3, 16, 16), labels, epoch=0, step=0)
    assert torch.allclose(targets, mixup_target(labels, 5, lam=share, smoothing=0.1), atol=1e-6)


def test_smoothed_targets_give_the_label_smoothing_loss():
    logits, labels = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 5
    loss = -(smooth_targets(labels, 5, 0.1) * logits.log_softmax(dim=1)).sum(dim=1).mean()
    assert loss == pytest.approx(LabelSmoothingCrossEntropy(0.1)(logits, labels).item(), abs=1e-6)


def test_draws_are_keyed_by_seed_epoch_and_step():
    assert mixing().draw(16, epoch=1, step=2) == mixing().draw(16, epoch=1, step=2)
    draws = {mixing(seed=s).draw(16, epoch=e, step=t) for s in range(3) for e in range(3) for t in range(3)}
    assert len(draws) == 27


def test_parts_of_a_batch_mix_as_the_whole():
    images, labels = batch(8)
    for step in range(6):
        whole, targets = mixing()(images, labels, epoch=0, step=step)
        parts = [mixing()(images[i : i + 4], labels[i : i + 4], epoch=0, step=step) for i in (0, 4)]
        assert torch.equal(whole, torch.cat([part for part, _ in parts]))
        assert torch.equal(targets, torch.cat([part for _, part in parts]))


def test_the_inputs_are_left_alone():
    images, labels = batch()
    kept = images.clone()
    for step in range(6):
        mixing()(images, labels, epoch=0, step=step)
    assert torch.equal(images, kept)


def test_shares_follow_the_beta_distribution_and_the_switch():
    draws = [mixing(switch=0.3).draw(32, epoch=0, step=step) for step in range(4000)]
    boxes = [draw for draw in draws if draw.box is not None]
    assert len(boxes) / len(draws) == pytest.approx(0.3, abs=0.03)
    shares = np.array([draw.share for draw in draws if draw.box is None])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), rel=0.08)
    assert all(0 <= t <= b <= 32 and 0 <= le <= r <= 32 for _, (t, b, le, r) in boxes)
    # A clipped rectangle is smaller than 1 - share asked for, so the mean share lies above a half.
    assert 0.55 < np.mean([draw.share for draw in boxes]) < 0.75


def test_rectangles_are_timms_for_the_same_centre_and_share():
    for step in range(50):
        own = generator(3, epoch=0, index=step, stream="mixing")
        asked = own.beta(1.0, 1.0)
        middle_y, middle_x = own.integers(16, size=2)
        cut = int(16 * np.sqrt(1 - asked))
        edges = [middle_y - cut // 2, middle_y + (cut + 1) // 2, middle_x - cut // 2, middle_x + (cut + 1) // 2]
        assert mixing(mixup=0.0).draw(16, epoch=0, step=step).box == tuple(np.clip(edges, 0, 16))


def test_rectangles_reach_every_part_of_an_upright_image():
    mix, images = mixing(mixup=0.0), torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 32, 8)
    lowest = 0
    for step in range(50):
        mixed, targets = mix(images, torch.tensor([0, 1]), epoch=0, step=step)
        share, (_, bottom, _, _) = mix.draw((32, 8), epoch=0, step=step)
        assert mixed[0].mean().item() == pytest.approx(1 - share, abs=1e-6)
        assert targets[0, 0].item() == pytest.approx(0.9 * share + 0.02, abs=1e-6)
        lowest = max(lowest, bottom)
    assert lowest == 32


def test_without_mixing_images_pass_and_odd_batches_are_fine():
    images, labels = batch(5)
    same, targets = mixing(mixup=0.0, cutmix=0.0)(images, labels, epoch=0, step=0)
    assert same is images and torch.equal(targets, smooth_targets(labels, 5, 0.1))


def test_an_odd_batch_is_refused():
    images, labels = batch(5)
    with pytest.raises(UserError, match=r"train\.batch_size.*5 images.*even"):
        mixing()(images, labels, epoch=0, step=0)


def test_build_takes_the_recipes_values():
    built = build_mixing(AugmentConfig(mixup=0.3, cutmix=0.4, mixup_switch=0.2, smoothing=0.05), seed=9, num_classes=7)
    assert vars(built) == {
        "mixup": 0.3, "cutmix": 0.4, "switch": 0.2, "smoothing": 0.05, "seed": 9, "num_classes": 7
    }  # fmt: skip
