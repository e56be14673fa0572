"""Mixup, cutmix and label smoothing, compared with their formulas and with timm."""

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
    settings = {
        "mixup_alpha": 0.8,
        "cutmix_alpha": 1.0,
        "switch_prob": 0.5,
        "label_smoothing": 0.1,
        "seed": 3,
        "num_classes": 5,
    }
    return Mixing(**settings | values)


def batch(count=6, size=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % 5


@pytest.mark.parametrize("alphas", [{"cutmix_alpha": 0.0}, {"mixup_alpha": 0.0}])
def test_images_and_targets_are_mixed_with_their_neighbor(alphas):
    images, labels = batch()
    partner = [1, 0, 3, 2, 5, 4]
    one_hot = torch.eye(5)[labels] * 0.9 + 0.1 / 5
    for step in range(20):
        mix = mixing(**alphas)
        lam, box = mix.draw(16, epoch=1, step=step)
        if box is None:
            expected = lam * images + (1 - lam) * images[partner]
        else:
            top, bottom, left, right = box
            expected = images.clone()
            expected[:, :, top:bottom, left:right] = images[partner][:, :, top:bottom, left:right]
            assert lam == 1 - (bottom - top) * (right - left) / 16**2
        mixed, targets = mix(images.clone(), labels, epoch=1, step=step)
        assert torch.allclose(mixed, expected, atol=1e-6)
        assert torch.allclose(targets, lam * one_hot + (1 - lam) * one_hot[partner], atol=1e-6)
        assert torch.allclose(targets.sum(dim=1), torch.ones(6))


def test_targets_of_a_pair_equal_timm():
    _, labels = batch(2)
    mix = mixing()
    lam, _ = mix.draw(16, epoch=0, step=0)
    _, targets = mix(torch.zeros(2, 3, 16, 16), labels, epoch=0, step=0)
    assert torch.allclose(targets, mixup_target(labels, 5, lam=lam, smoothing=0.1), atol=1e-6)


def test_smoothed_targets_give_the_label_smoothing_loss():
    logits, labels = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)), torch.arange(6) % 5
    loss = -(smooth_targets(labels, 5, 0.1) * logits.log_softmax(dim=1)).sum(dim=1).mean()
    assert loss == pytest.approx(LabelSmoothingCrossEntropy(0.1)(logits, labels).item(), abs=1e-6)


def test_draws_are_keyed_by_seed_epoch_and_step():
    assert mixing().draw(16, epoch=1, step=2) == mixing().draw(16, epoch=1, step=2)
    draws = {mixing(seed=s).draw(16, epoch=e, step=t) for s in range(3) for e in range(3) for t in range(3)}
    assert len(draws) == 27


def test_mixing_local_batches_equals_mixing_the_global_batch():
    images, labels = batch(8)
    for step in range(6):
        mixed, targets = mixing()(images, labels, epoch=0, step=step)
        local = [mixing()(images[i : i + 4], labels[i : i + 4], epoch=0, step=step) for i in (0, 4)]
        assert torch.equal(mixed, torch.cat([local_images for local_images, _ in local]))
        assert torch.equal(targets, torch.cat([local_targets for _, local_targets in local]))


def test_inputs_are_not_modified():
    images, labels = batch()
    original = images.clone()
    for step in range(6):
        mixing()(images, labels, epoch=0, step=step)
    assert torch.equal(images, original)


def test_lam_follows_the_beta_distribution_and_methods_the_switch_probability():
    draws = [mixing(switch_prob=0.3).draw(32, epoch=0, step=step) for step in range(4000)]
    boxes = [draw for draw in draws if draw.box is not None]
    assert len(boxes) / len(draws) == pytest.approx(0.3, abs=0.03)
    lams = np.array([draw.lam for draw in draws if draw.box is None])
    assert lams.mean() == pytest.approx(0.5, abs=0.02)
    assert lams.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), rel=0.08)
    assert all(0 <= t <= b <= 32 and 0 <= le <= r <= 32 for _, (t, b, le, r) in boxes)
    # A clipped rectangle is smaller than the drawn 1 - lam, so the mean corrected lam is above 0.5.
    assert 0.55 < np.mean([draw.lam for draw in boxes]) < 0.75


def test_rectangles_equal_timm_for_the_same_center_and_lam():
    for step in range(50):
        rng = generator(3, epoch=0, index=step, stream="mixing")
        lam = rng.beta(1.0, 1.0)
        center_y, center_x = rng.integers(16, size=2)
        cut = int(16 * np.sqrt(1 - lam))
        edges = [center_y - cut // 2, center_y + (cut + 1) // 2, center_x - cut // 2, center_x + (cut + 1) // 2]
        assert mixing(mixup_alpha=0.0).draw(16, epoch=0, step=step).box == tuple(np.clip(edges, 0, 16))


def test_rectangles_cover_every_part_of_a_portrait_image():
    mix, images = mixing(mixup_alpha=0.0), torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 3, 32, 8)
    lowest = 0
    for step in range(50):
        mixed, targets = mix(images, torch.tensor([0, 1]), epoch=0, step=step)
        lam, (_, bottom, _, _) = mix.draw((32, 8), epoch=0, step=step)
        assert mixed[0].mean().item() == pytest.approx(1 - lam, abs=1e-6)
        assert targets[0, 0].item() == pytest.approx(0.9 * lam + 0.02, abs=1e-6)
        lowest = max(lowest, bottom)
    assert lowest == 32


def test_disabled_mixing_returns_the_images_and_accepts_odd_batches():
    images, labels = batch(5)
    same, targets = mixing(mixup_alpha=0.0, cutmix_alpha=0.0)(images, labels, epoch=0, step=0)
    assert same is images and torch.equal(targets, smooth_targets(labels, 5, 0.1))


def test_an_odd_batch_is_rejected():
    images, labels = batch(5)
    with pytest.raises(UserError, match=r"train\.batch_size.*5 images.*even"):
        mixing()(images, labels, epoch=0, step=0)


def test_build_mixing_uses_the_configuration():
    built = build_mixing(
        AugmentConfig(mixup=0.3, cutmix=0.4, mixup_switch_prob=0.2, label_smoothing=0.05), seed=9, num_classes=7
    )
    assert vars(built) == {
        "mixup_alpha": 0.3, "cutmix_alpha": 0.4, "switch_prob": 0.2, "label_smoothing": 0.05, "seed": 9, "num_classes": 7
    }  # fmt: skip
