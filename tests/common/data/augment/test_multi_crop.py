"""Multi-crop augmentation: geometry compared with Pillow and with manual results, and assembly into batches."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from common.config import build
from common.data.augment import parameters as columns
from common.data.augment.color_on_device import apply_on_batch
from common.data.augment.multi_crop import CropsConfig, build_multi_crop, crop_and_resize
from common.errors import UserError
from common.rng import SampleKey


def photograph(height, width, seed=0):
    """Return an (H, W, 3) image with detail at all scales, as in photographs."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(2**k, 2**k, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        / k
        for k in range(1, 8)
    ]
    return np.clip(sum(layers) * 45 + 120, 0, 255).astype(np.uint8)


def view_parameters(**values):
    neutral = {"BRIGHTNESS": 1.0, "CONTRAST": 1.0, "SATURATION": 1.0}
    parameters = [0.0] * columns.NUM_PARAMETERS
    for name, value in (neutral | values).items():
        parameters[getattr(columns, name)] = float(value)
    return parameters


def as_pillow(image):
    return Image.fromarray(image)


@pytest.mark.parametrize(("height", "width", "size"), [(375, 500, 224), (375, 500, 96), (32, 32, 32), (8, 8, 16)])
def test_geometry_agrees_with_pillow(height, width, size):
    image = photograph(height, width)
    config = CropsConfig(global_size=size, local_size=size)
    views = build_multi_crop(config, 3, color_in_worker=False)
    keys = [SampleKey(0, 0, index, 0) for index in range(4)]
    blocks, parameters, *_ = views([image] * 4, keys)
    errors = []
    for block, block_parameters in zip(blocks, parameters, strict=True):
        for crop, values in zip(block.flatten(0, 1), block_parameters.flatten(0, 1).tolist(), strict=True):
            top, left, h, w = (int(value) for value in values[:4])
            expected = (
                as_pillow(image).crop((left, top, left + w, top + h)).resize((size, size), Image.Resampling.BICUBIC)
            )
            if values[columns.FLIP]:
                expected = expected.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            errors.append(np.abs(np.asarray(expected).astype(int) - crop.permute(1, 2, 0).numpy().astype(int)))
    assert len(errors) == 40
    assert np.mean(errors) <= 0.1 and max(error.max() for error in errors) <= 2


def test_rotation_by_90_degrees_is_exact_and_counter_clockwise():
    image = photograph(16, 16)
    turned = crop_and_resize(image, view_parameters(HEIGHT=16, WIDTH=16, ANGLE=90), (16, 16))
    assert np.array_equal(turned, np.rot90(image))


def test_translation_replicates_the_edges():
    image = photograph(16, 16)
    moved = crop_and_resize(
        image, view_parameters(HEIGHT=16, WIDTH=16, TRANSLATE_X=2 / 16, TRANSLATE_Y=-3 / 16), (16, 16)
    )
    expected = np.pad(image, ((0, 3), (2, 0), (0, 0)), mode="edge")[3:, :16]
    assert np.array_equal(moved, expected)


def test_a_portrait_view_is_rotated_about_its_center():
    image = photograph(24, 12)
    turned = crop_and_resize(image, view_parameters(HEIGHT=24, WIDTH=12, ANGLE=180), (24, 12))
    assert np.array_equal(turned, np.rot90(image, 2))


def test_flip_is_applied_before_rotation():
    image = photograph(16, 16)
    turned = crop_and_resize(image, view_parameters(HEIGHT=16, WIDTH=16, ANGLE=90, FLIP=1), (16, 16))
    assert np.array_equal(turned, np.rot90(image[:, ::-1]))


def test_results_do_not_depend_on_memory_layout_and_offset():
    image = photograph(20, 31)
    box = view_parameters(TOP=3, LEFT=5, HEIGHT=11, WIDTH=17)
    expected = crop_and_resize(image, box, (12, 12))
    inside = np.stack([photograph(20, 31, seed=1), image])[1]
    planes = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
    for same in (inside, planes, np.concatenate([image, image], axis=1)[:, :31]):
        assert np.array_equal(crop_and_resize(same, box, (12, 12)), expected)


@pytest.mark.parametrize("in_worker", [False, True])
def test_blocks_have_all_views_of_images_of_any_size(in_worker):
    images = [photograph(40, 30), photograph(16, 64, 1), photograph(25, 25, 2)]
    keys = [SampleKey(2, 0, index, 0) for index in range(3)]
    config = CropsConfig(num_global=3, global_size=24, num_local=4, local_size=10, degrees=5)
    views = build_multi_crop(config, 1, color_in_worker=in_worker)
    blocks, parameters, erasures, *_ = views(images, keys)
    assert [block.shape for block in blocks] == [(3, 3, 3, 24, 24), (4, 3, 3, 10, 10)]
    assert [block.shape[:2] for block in parameters] == [(3, 3), (4, 3)]
    assert all(block.dtype == torch.uint8 and block.is_contiguous() for block in blocks) and erasures is None
    single = views(images[1:2], keys[1:2])
    assert all(torch.equal(block[:, 1:2], one) for block, one in zip(blocks, single.blocks, strict=True))
    assert all(torch.equal(block[:, 1:2], one) for block, one in zip(parameters, single.parameters, strict=True))


def test_color_augmentation_in_the_worker_agrees_with_the_device():
    images = [photograph(40, 40, seed) for seed in range(8)]
    keys = [SampleKey(0, 0, index, 0) for index in range(8)]
    config = CropsConfig(global_size=32, local_size=16)
    worker = build_multi_crop(config, 1, color_in_worker=True)(images, keys)
    geometry = build_multi_crop(config, 1, color_in_worker=False)(images, keys)
    for expected, block, parameters in zip(worker.blocks, geometry.blocks, geometry.parameters, strict=True):
        assert not torch.equal(expected, block)
        device = apply_on_batch(block.flatten(0, 1), parameters.flatten(0, 1), sigma_limit=2.0)
        assert (device - expected.flatten(0, 1)).abs().mean() < 0.75


def test_no_local_views():
    views = build_multi_crop(CropsConfig(global_size=8, num_local=0), 1, color_in_worker=True)
    blocks, parameters, *_ = views([photograph(9, 9)], [SampleKey(0, 0, 0, 0)])
    assert len(blocks) == len(parameters) == 1 and blocks[0].shape == (2, 1, 3, 8, 8)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_global", 1),
        ("num_local", -1),
        ("local_size", 0),
        ("global_scale", [0.5, 1.5]),
        ("ratio", [0.0, 1.0]),
        ("blur_prob", [1.0, 2.0, 0.0]),
        ("hflip_prob", -0.1),
        ("hue", 0.6),
        ("translate", -1.0),
        ("blur_sigma", [2.0, 0.1]),
    ],
)
def test_values_out_of_range_are_reported_with_their_key(key, value):
    with pytest.raises(UserError, match=key):
        build(CropsConfig, {key: value}, source="recipe")


def test_defaults_are_valid():
    assert list(CropsConfig().problems()) == []


@pytest.mark.parametrize("shape", [(1, 1), (1, 60_000), (20_000, 10)])
def test_images_of_one_pixel_and_extreme_aspect_ratio(shape):
    views = build_multi_crop(CropsConfig(global_size=32, local_size=16), 0, color_in_worker=True)
    blocks = views([np.full((*shape, 3), 90, dtype=np.uint8)], [SampleKey(0, 0, 0, 0)]).blocks
    assert [tuple(block.shape) for block in blocks] == [(2, 1, 3, 32, 32), (8, 1, 3, 16, 16)]
