"""Tests of the way from labels of an image to targets of a view: they agree with what the view shows."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate
from torchvision.ops import roi_align

from common.data.augment.parameters import FLIP, NUM_PARAMETERS, WIDTH, view_affines
from common.data.augment.supervised import AugmentConfig, build_supervised_view
from common.data.token_labels.files import DenseLabels
from common.data.token_labels.targets import dense_targets
from common.rng import SampleKey

MEAN = (0.5, 0.5, 0.5)


def geometry(boxes, flips, height, width):
    """Return the maps of crops (top, left, height, width) of images of one size."""
    records = np.zeros((len(boxes), NUM_PARAMETERS), dtype=np.float32)
    records[:, : WIDTH + 1], records[:, FLIP] = boxes, flips
    return torch.from_numpy(view_affines(records, np.full(len(boxes), height), np.full(len(boxes), width)))


def all_classes(maps):
    """Return the labels that keep every class of (B, C, h, w) maps."""
    classes = torch.arange(maps.shape[1]).expand(len(maps), *maps.shape[2:], -1)
    return classes.int(), maps.permute(0, 2, 3, 1).half()


def test_the_classes_left_out_share_what_is_left():
    classes = torch.tensor([3, 1]).expand(1, 2, 2, 2).int()
    probabilities = torch.tensor([0.5, 0.25]).expand(1, 2, 2, 2).half()
    targets = dense_targets(DenseLabels(classes, probabilities, geometry([(0, 0, 8, 8)], [0], 8, 8)), (2, 2), 7)
    rest = 0.25 / 5
    expected = torch.tensor([rest, 0.25, rest, 0.5, rest, rest, rest])
    assert torch.allclose(targets, expected.expand(1, 4, 7), atol=1e-6)


def test_an_uncropped_view_has_the_labels_of_its_image_and_a_flip_mirrors_them():
    maps = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    where = geometry([(0, 0, 20, 30)] * 2, [0, 1], 20, 30)
    targets = dense_targets(DenseLabels(*all_classes(maps), where), (3, 3), 4)
    assert torch.allclose(targets[0], maps[0].flatten(1).T, atol=2e-3)
    assert torch.allclose(targets[1], maps[1].flip(-1).flatten(1).T, atol=2e-3)


def test_crops_give_what_roi_align_gives():
    maps = torch.rand(20, 5, 6, 6, generator=torch.Generator().manual_seed(0)).softmax(1)
    generator = np.random.default_rng(0)
    sides = generator.integers(10, 41, (20, 2))
    corners = (generator.random((20, 2)) * ([41, 61] - sides)).astype(int)
    where = geometry(np.concatenate([corners, sides], axis=1), np.zeros(20), 40, 60)
    targets = dense_targets(DenseLabels(*all_classes(maps), where), (3, 3), 5)
    boxes = np.concatenate([corners[:, ::-1], (corners + sides)[:, ::-1]], axis=1) / [60, 40, 60, 40] * 6
    rows = torch.cat([torch.arange(20)[:, None], torch.from_numpy(boxes)], dim=1).float()
    expected = roi_align(maps.half().float(), rows, (3, 3), sampling_ratio=2, aligned=True)
    assert torch.allclose(targets, expected.flatten(2).transpose(1, 2), atol=1e-3)


@pytest.mark.parametrize(
    "augment",
    [
        {},
        {"flip": 1.0, "crop_scale": (0.1, 0.4)},
        {"rotation_degrees": 30.0, "shift": 0.1, "crop_scale": (0.5, 1.0)},
        {"padding": 6, "padding_mode": "reflect"},
    ],
)
def test_targets_are_what_the_view_shows(augment):
    """The images' colours are their label maps, so a view's colours are its targets."""
    small = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    maps = interpolate(small, size=(12, 12), mode="bilinear").softmax(1)
    pixels = (interpolate(maps, size=(96, 144), mode="bilinear") * 255).round().to(torch.uint8)
    config = AugmentConfig(auto_augment="", erasing=0.0, **augment)
    view = build_supervised_view(config, 48, seed=4, mean=MEAN, with_geometry=True)
    shown = view(list(pixels), [SampleKey(0, place, place, 0) for place in range(12)])
    targets = dense_targets(DenseLabels(*all_classes(maps), shown.geometry), (6, 6), 3)
    expected = avg_pool2d(shown.blocks[0][0].float() / 255, 8).flatten(2).transpose(1, 2)
    # Where a view reaches over the image's edge, both go on in their own ways.
    difference = (targets - expected).abs().amax(-1).view(12, 6, 6)
    inner = difference[:, 1:-1, 1:-1]
    assert inner.max() < 0.02, inner.amax((1, 2))
    assert difference.max() < 0.06
    shifted = (targets.roll(1, 0) - expected).abs().amax()
    assert shifted > 0.15, "the images must differ for the test to tell anything"


@pytest.mark.parametrize("shape", [(8, 480), (480, 8)])
def test_targets_of_a_strip_are_of_its_middle_which_the_view_shows(shape):
    """The ends of an image more than 50 times as long as wide are cut off; its labels are of all of it."""
    lines = torch.rand(12, 3, 12, generator=torch.Generator().manual_seed(1)).mul(3).softmax(1)
    maps = lines[:, :, None].expand(-1, -1, 12, -1) if shape[1] > shape[0] else lines[..., None].expand(-1, -1, -1, 12)
    pixels = (interpolate(maps, size=shape, mode="bilinear") * 255).round().to(torch.uint8)
    config = AugmentConfig(auto_augment="", erasing=0.0, padding=6, padding_mode="reflect", flip=0.0)
    view = build_supervised_view(config, 48, seed=4, mean=MEAN, with_geometry=True)
    shown = view(list(pixels), [SampleKey(0, place, place, 0) for place in range(12)])
    targets = dense_targets(DenseLabels(*all_classes(maps), shown.geometry), (6, 6), 3)
    expected = avg_pool2d(shown.blocks[0][0].float() / 255, 8).flatten(2).transpose(1, 2)
    assert (targets - expected).abs().amax() < 0.05
    assert (targets.roll(1, 0) - expected).abs().amax() > 0.15


def test_a_view_tells_its_geometry_only_when_asked():
    view = build_supervised_view(AugmentConfig(), 16, seed=4, mean=MEAN)
    assert view([torch.zeros(3, 20, 20, dtype=torch.uint8)], [SampleKey(0, 0, 0, 0)]).geometry is None
