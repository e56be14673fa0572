"""Token targets of a view, computed from the token labels of its image."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate
from torchvision.ops import roi_align

from common.data.augment.parameters import FLIP, NUM_PARAMETERS, WIDTH, view_affines
from common.data.augment.supervised import AugmentConfig, build_supervised_transform
from common.data.token_labels.reader import TokenLabelBatch
from common.data.token_labels.targets import token_targets
from common.rng import SampleKey

MEAN = (0.5, 0.5, 0.5)


def geometry(boxes, flips, height, width):
    """Return the geometry of crops (top, left, height, width) of images of one size."""
    parameters = np.zeros((len(boxes), NUM_PARAMETERS), dtype=np.float32)
    parameters[:, : WIDTH + 1], parameters[:, FLIP] = boxes, flips
    return torch.from_numpy(view_affines(parameters, np.full(len(boxes), height), np.full(len(boxes), width)))


def all_classes(maps):
    """Return labels with all classes of (B, C, h, w) maps."""
    classes = torch.arange(maps.shape[1]).expand(len(maps), *maps.shape[2:], -1)
    return classes.int(), maps.permute(0, 2, 3, 1).half()


def test_the_remaining_probability_is_spread_over_the_classes_not_stored():
    classes = torch.tensor([3, 1]).expand(1, 2, 2, 2).int()
    probabilities = torch.tensor([0.5, 0.25]).expand(1, 2, 2, 2).half()
    targets = token_targets(TokenLabelBatch(classes, probabilities, geometry([(0, 0, 8, 8)], [0], 8, 8)), (2, 2), 7)
    rest = 0.25 / 5
    expected = torch.tensor([rest, 0.25, rest, 0.5, rest, rest, rest])
    assert torch.allclose(targets, expected.expand(1, 4, 7), atol=1e-6)


def test_an_uncropped_view_has_the_labels_of_its_image_flipped_if_it_is():
    maps = torch.rand(2, 4, 3, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    where = geometry([(0, 0, 20, 30)] * 2, [0, 1], 20, 30)
    targets = token_targets(TokenLabelBatch(*all_classes(maps), where), (3, 3), 4)
    assert torch.allclose(targets[0], maps[0].flatten(1).T, atol=2e-3)
    assert torch.allclose(targets[1], maps[1].flip(-1).flatten(1).T, atol=2e-3)


def test_targets_of_crops_equal_roi_align():
    maps = torch.rand(20, 5, 6, 6, generator=torch.Generator().manual_seed(0)).softmax(1)
    generator = np.random.default_rng(0)
    sides = generator.integers(10, 41, (20, 2))
    corners = (generator.random((20, 2)) * ([41, 61] - sides)).astype(int)
    where = geometry(np.concatenate([corners, sides], axis=1), np.zeros(20), 40, 60)
    targets = token_targets(TokenLabelBatch(*all_classes(maps), where), (3, 3), 5)
    boxes = np.concatenate([corners[:, ::-1], (corners + sides)[:, ::-1]], axis=1) / [60, 40, 60, 40] * 6
    rows = torch.cat([torch.arange(20)[:, None], torch.from_numpy(boxes)], dim=1).float()
    expected = roi_align(maps.half().float(), rows, (3, 3), sampling_ratio=2, aligned=True)
    assert torch.allclose(targets, expected.flatten(2).transpose(1, 2), atol=1e-3)


@pytest.mark.parametrize(
    "augment",
    [
        {},
        {"hflip_prob": 1.0, "crop_scale": (0.1, 0.4)},
        {"degrees": 30.0, "translate": 0.1, "crop_scale": (0.5, 1.0)},
        {"padding": 6, "padding_mode": "reflect"},
    ],
)
def test_targets_follow_the_transform_of_the_view(augment):
    """The images' colors are their label maps, so a view's colors are its targets."""
    small = torch.rand(12, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    maps = interpolate(small, size=(12, 12), mode="bilinear").softmax(1)
    pixels = (interpolate(maps, size=(96, 144), mode="bilinear") * 255).round().to(torch.uint8)
    config = AugmentConfig(auto_augment="", random_erasing_prob=0.0, **augment)
    transform = build_supervised_transform(config, 48, seed=4, mean=MEAN, with_geometry=True)
    views = transform(
        list(pixels.permute(0, 2, 3, 1).contiguous().numpy()), [SampleKey(0, index, index, 0) for index in range(12)]
    )
    targets = token_targets(TokenLabelBatch(*all_classes(maps), views.geometry), (6, 6), 3)
    expected = avg_pool2d(views.blocks[0][0].float() / 255, 8).flatten(2).transpose(1, 2)
    # Where a view extends over the image's edge, labels and pixels are extrapolated differently.
    difference = (targets - expected).abs().amax(-1).view(12, 6, 6)
    inner = difference[:, 1:-1, 1:-1]
    assert inner.max() < 0.02, inner.amax((1, 2))
    assert difference.max() < 0.06
    shifted = (targets.roll(1, 0) - expected).abs().amax()
    assert shifted > 0.15, "the images must differ, or the test is void"


@pytest.mark.parametrize("shape", [(8, 480), (480, 8)])
def test_targets_of_an_image_of_extreme_aspect_ratio_are_those_of_its_center(shape):
    """An image with an aspect ratio above 50 is cropped to its center; its labels cover the complete image."""
    lines = torch.rand(12, 3, 12, generator=torch.Generator().manual_seed(1)).mul(3).softmax(1)
    maps = lines[:, :, None].expand(-1, -1, 12, -1) if shape[1] > shape[0] else lines[..., None].expand(-1, -1, -1, 12)
    pixels = (interpolate(maps, size=shape, mode="bilinear") * 255).round().to(torch.uint8)
    config = AugmentConfig(auto_augment="", random_erasing_prob=0.0, padding=6, padding_mode="reflect", hflip_prob=0.0)
    transform = build_supervised_transform(config, 48, seed=4, mean=MEAN, with_geometry=True)
    views = transform(
        list(pixels.permute(0, 2, 3, 1).contiguous().numpy()), [SampleKey(0, index, index, 0) for index in range(12)]
    )
    targets = token_targets(TokenLabelBatch(*all_classes(maps), views.geometry), (6, 6), 3)
    expected = avg_pool2d(views.blocks[0][0].float() / 255, 8).flatten(2).transpose(1, 2)
    assert (targets - expected).abs().amax() < 0.05
    assert (targets.roll(1, 0) - expected).abs().amax() > 0.15


def test_the_geometry_is_returned_only_on_request():
    transform = build_supervised_transform(AugmentConfig(), 16, seed=4, mean=MEAN)
    assert transform([np.zeros((20, 20, 3), dtype=np.uint8)], [SampleKey(0, 0, 0, 0)]).geometry is None
