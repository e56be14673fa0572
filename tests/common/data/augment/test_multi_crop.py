"""Tests of the geometry of views, against Pillow and by hand, and of their assembly."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from common.config import build
from common.data.augment import parameters as columns
from common.data.augment.color import apply_on_batch
from common.data.augment.multi_crop import ViewsConfig, as_interleaved, build_multi_crop, crop_and_resize
from common.errors import UserError
from common.rng import SampleKey


def photograph(height, width, seed=0):
    """A (3, H, W) image with detail at all scales, as photographs have."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(2**k, 2**k, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        / k
        for k in range(1, 8)
    ]
    pixels = np.clip(sum(layers) * 45 + 120, 0, 255).astype(np.uint8)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def record(**values):
    neutral = {"BRIGHTNESS": 1.0, "CONTRAST": 1.0, "SATURATION": 1.0}
    numbers = [0.0] * columns.NUM_PARAMETERS
    for name, value in (neutral | values).items():
        numbers[getattr(columns, name)] = float(value)
    return numbers


def as_pillow(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("height", "width", "size"), [(375, 500, 224), (375, 500, 96), (32, 32, 32), (8, 8, 16)])
def test_geometry_agrees_with_pillow(height, width, size):
    image = photograph(height, width)
    config = ViewsConfig(global_size=size, local_size=size)
    views = build_multi_crop(config, 3, photometry_in_worker=False)
    keys = [SampleKey(0, 0, index, 0) for index in range(4)]
    blocks, parameters, *_ = views([image] * 4, keys)
    errors = []
    for block, records in zip(blocks, parameters, strict=True):
        for crop, numbers in zip(block.flatten(0, 1), records.flatten(0, 1).tolist(), strict=True):
            top, left, h, w = (int(value) for value in numbers[:4])
            expected = (
                as_pillow(image).crop((left, top, left + w, top + h)).resize((size, size), Image.Resampling.BICUBIC)
            )
            if numbers[columns.FLIP]:
                expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            errors.append(np.abs(np.asarray(expected).astype(int) - crop.permute(1, 2, 0).numpy().astype(int)))
    assert len(errors) == 40
    assert np.mean(errors) <= 0.1 and max(error.max() for error in errors) <= 2


def test_a_quarter_turn_is_exact_and_counter_clockwise():
    image = photograph(16, 16)
    turned = crop_and_resize(as_interleaved(image), record(HEIGHT=16, WIDTH=16, ANGLE=90), (16, 16))
    assert np.array_equal(turned, np.rot90(image.permute(1, 2, 0).numpy()))


def test_a_shift_repeats_the_edges():
    image = photograph(16, 16)
    pixels = image.permute(1, 2, 0).numpy()
    moved = crop_and_resize(
        as_interleaved(image), record(HEIGHT=16, WIDTH=16, SHIFT_X=2 / 16, SHIFT_Y=-3 / 16), (16, 16)
    )
    expected = np.pad(pixels, ((0, 3), (2, 0), (0, 0)), mode="edge")[3:, :16]
    assert np.array_equal(moved, expected)


def test_an_upright_view_is_turned_about_its_middle():
    image = photograph(24, 12)
    turned = crop_and_resize(as_interleaved(image), record(HEIGHT=24, WIDTH=12, ANGLE=180), (24, 12))
    assert np.array_equal(turned, np.rot90(image.permute(1, 2, 0).numpy(), 2))


def test_the_flip_comes_before_the_turn():
    image = photograph(16, 16)
    turned = crop_and_resize(as_interleaved(image), record(HEIGHT=16, WIDTH=16, ANGLE=90, FLIP=1), (16, 16))
    assert np.array_equal(turned, np.rot90(image.permute(1, 2, 0).numpy()[:, ::-1]))


def test_memory_layout_and_offset_change_nothing():
    image = photograph(20, 31)
    box = record(TOP=3, LEFT=5, HEIGHT=11, WIDTH=17)
    expected = crop_and_resize(as_interleaved(image), box, (12, 12))
    inside = torch.stack([photograph(20, 31, seed=1), image])[1]
    interleaved = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for same in (inside, interleaved, torch.cat([image, image], dim=2)[:, :, :31]):
        assert np.array_equal(crop_and_resize(as_interleaved(same), box, (12, 12)), expected)


@pytest.mark.parametrize("in_worker", [False, True])
def test_blocks_hold_all_views_of_images_of_any_size(in_worker):
    images = [photograph(40, 30), photograph(16, 64, 1), photograph(25, 25, 2)]
    keys = [SampleKey(2, 0, index, 0) for index in range(3)]
    config = ViewsConfig(global_count=3, global_size=24, local_count=4, local_size=10, rotation_degrees=5)
    views = build_multi_crop(config, 1, photometry_in_worker=in_worker)
    blocks, parameters, erasures, *_ = views(images, keys)
    assert [block.shape for block in blocks] == [(3, 3, 3, 24, 24), (4, 3, 3, 10, 10)]
    assert [records.shape[:2] for records in parameters] == [(3, 3), (4, 3)]
    assert all(block.dtype == torch.uint8 and block.is_contiguous() for block in blocks) and erasures is None
    alone = views(images[1:2], keys[1:2])
    assert all(torch.equal(block[:, 1:2], own) for block, own in zip(blocks, alone.blocks, strict=True))
    assert all(torch.equal(records[:, 1:2], own) for records, own in zip(parameters, alone.parameters, strict=True))


def test_photometry_in_the_worker_is_what_the_device_does_with_the_parameters():
    images = [photograph(40, 40, seed) for seed in range(8)]
    keys = [SampleKey(0, 0, index, 0) for index in range(8)]
    config = ViewsConfig(global_size=32, local_size=16)
    worker = build_multi_crop(config, 1, photometry_in_worker=True)(images, keys)
    plain = build_multi_crop(config, 1, photometry_in_worker=False)(images, keys)
    for done, block, records in zip(worker.blocks, plain.blocks, plain.parameters, strict=True):
        assert not torch.equal(done, block)
        device = apply_on_batch(block.flatten(0, 1), records.flatten(0, 1), sigma_limit=2.0)
        assert (device - done.flatten(0, 1)).abs().mean() < 0.75


def test_no_local_views():
    views = build_multi_crop(ViewsConfig(global_size=8, local_count=0), 1, photometry_in_worker=True)
    blocks, parameters, *_ = views([photograph(9, 9)], [SampleKey(0, 0, 0, 0)])
    assert len(blocks) == len(parameters) == 1 and blocks[0].shape == (2, 1, 3, 8, 8)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("global_count", 1),
        ("local_count", -1),
        ("local_size", 0),
        ("global_scale", [0.5, 1.5]),
        ("aspect", [0.0, 1.0]),
        ("blur", [1.0, 2.0, 0.0]),
        ("flip", -0.1),
        ("hue", 0.6),
        ("shift", -1.0),
        ("blur_sigma", [2.0, 0.1]),
    ],
)
def test_settings_out_of_range_are_named(key, value):
    with pytest.raises(UserError, match=key):
        build(ViewsConfig, {key: value}, source="recipe")


def test_default_settings_are_in_range():
    assert list(ViewsConfig().problems()) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 60_000), (20_000, 10)])
def test_points_and_strips_make_views(shape):
    views = build_multi_crop(ViewsConfig(global_size=32, local_size=16), 0, photometry_in_worker=True)
    blocks = views([torch.full((3, *shape), 90, dtype=torch.uint8)], [SampleKey(0, 0, 0, 0)]).blocks
    assert [tuple(block.shape) for block in blocks] == [(2, 1, 3, 32, 32), (8, 1, 3, 16, 16)]
