"""Images that are not RGB of 8 bits: the same geometry and color augmentation, compared with torchvision on float tensors."""

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision.transforms import functional as reference

from common.data.augment import parameters as columns
from common.data.augment.bicubic import LEVEL, resize
from common.data.augment.color import apply_on_crop, blur_kernels, blur_radius, color_ops
from common.data.augment.color_on_device import apply_on_batch
from common.data.augment.multi_crop import CropsConfig, build_multi_crop, crop_and_resize
from common.data.augment.supervised import AugmentConfig, EvaluationTransform, build_supervised_transform
from common.rng import SampleKey

Pixels = npt.NDArray[np.generic]
FORMS = [(1, np.uint8), (2, np.uint8), (4, np.uint8), (7, np.uint8), (1, np.uint16), (3, np.uint16), (6, np.uint16)]


def image(channels: int, dtype: type, size: tuple[int, int] = (40, 52), seed: int = 0) -> Pixels:
    """Return smooth noise: bicubic interpolation and truncation make no difference of more than a level."""
    rng = np.random.default_rng(seed)
    planes = [cv2.resize(rng.random((6, 8), np.float32), size[::-1]) for _ in range(channels)]
    return (np.stack(planes, axis=2) * np.iinfo(dtype).max).astype(dtype)


def as_tensor(pixels: Pixels) -> torch.Tensor:
    """Return (C, H, W) float32 in [0, 1]."""
    highest = 255 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
    return torch.from_numpy(np.moveaxis(pixels, 2, 0) / highest).float()


def view_parameters(**values: float) -> torch.Tensor:
    parameters = torch.zeros(1, columns.NUM_PARAMETERS)
    parameters[:, columns.BRIGHTNESS : columns.SATURATION + 1] = 1
    for name, value in values.items():
        parameters[:, getattr(columns, name)] = value
    return parameters


def level(pixels: Pixels) -> float:
    """Return the tolerance in [0, 1]: a level of 8 bits, or of 16."""
    return 1.01 / 255 if pixels.dtype == np.uint8 else 1e-4


def by_channel(function, pixels: Pixels) -> torch.Tensor:
    """Return what torchvision makes of each channel: it takes only gray and RGB."""
    return torch.cat([function(plane[None]) for plane in as_tensor(pixels)])


@pytest.mark.parametrize(("channels", "dtype"), FORMS)
@pytest.mark.parametrize("size", [(16, 24), (60, 20), (30, 40)])
def test_resized_crops_are_those_of_torchvision(channels: int, dtype: type, size: tuple[int, int]) -> None:
    pixels = image(channels, dtype)
    ours = resize(pixels, size, box=(5, 7, 30, 40), flip=True)
    crop = as_tensor(pixels)[:, 5:35, 7:47]
    theirs = reference.resize(crop, size, reference.InterpolationMode.BICUBIC, antialias=True).clamp(0, 1).flip(2)
    assert ours.shape == (*size, channels)
    assert ours.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    torch.testing.assert_close(as_tensor(ours), theirs, atol=0.51 / 255 if dtype == np.uint8 else 1e-6, rtol=0)


def test_sixteen_bits_are_not_truncated() -> None:
    pixels = np.arange(64, dtype=np.uint16).reshape(8, 8, 1) + 30_000  # within a quarter of a level of 8 bits
    assert len(np.unique(resize(pixels, (8, 8)))) == 64
    (block,) = EvaluationTransform(8, 1.0)([pixels], [SampleKey(0, 0, 0, 0)]).blocks
    np.testing.assert_allclose(block[0, 0, 0] * LEVEL, pixels[..., 0], rtol=1e-6)


@pytest.mark.parametrize(("channels", "dtype"), FORMS)
def test_rotation_and_translation_of_each_channel_are_those_of_gray(channels: int, dtype: type) -> None:
    pixels = image(channels, dtype)
    geometry = [2, 3, 30, 40, 1, 25.0, 0.1, -0.2]
    crop = crop_and_resize(pixels, geometry, (20, 28))
    for channel in range(channels):
        alone = crop_and_resize(np.ascontiguousarray(pixels[..., [channel]]), geometry, (20, 28))
        np.testing.assert_array_equal(crop[..., channel], alone[..., 0])
    rgb = np.repeat(image(1, np.uint8), 3, axis=2)
    gray = crop_and_resize(image(1, np.uint8), geometry, (20, 28))
    assert np.abs(crop_and_resize(rgb, geometry, (20, 28))[..., :1].astype(int) - gray).max() <= 2


@pytest.mark.parametrize(("channels", "dtype"), FORMS)
def test_brightness_and_contrast_are_those_of_torchvision(channels: int, dtype: type) -> None:
    crop = resize(image(channels, dtype), (24, 32))
    (ops,) = color_ops(view_parameters(BRIGHTNESS=0.8, CONTRAST=1.1), channels)
    if channels == 3:
        theirs = reference.adjust_contrast(reference.adjust_brightness(as_tensor(crop), 0.8), 1.1)
    else:
        theirs = by_channel(lambda plane: reference.adjust_contrast(reference.adjust_brightness(plane, 0.8), 1.1), crop)
    torch.testing.assert_close(as_tensor(apply_on_crop(crop.copy(), ops)), theirs, atol=1.5 * level(crop), rtol=0)


@pytest.mark.parametrize(("channels", "dtype"), FORMS)
def test_solarize_is_that_of_torchvision(channels: int, dtype: type) -> None:
    crop = resize(image(channels, dtype), (24, 32))
    (ops,) = color_ops(view_parameters(SOLARIZE=1), channels)
    theirs = by_channel(lambda plane: reference.solarize(plane, 128 / 255), crop)
    torch.testing.assert_close(as_tensor(apply_on_crop(crop, ops)), theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("channels", "dtype"), FORMS)
def test_blur_is_that_of_torchvision_within_the_edges(channels: int, dtype: type) -> None:
    crop, sigma = resize(image(channels, dtype), (24, 32)), 1.5
    radius = blur_radius(sigma)
    (ops,) = color_ops(view_parameters(BLUR_SIGMA=sigma), channels)
    assert blur_kernels(torch.tensor([sigma]), radius).shape[1] == 2 * radius + 1
    theirs = reference.gaussian_blur(as_tensor(crop), [2 * radius + 1] * 2, [sigma] * 2)
    within = (slice(None), slice(radius, -radius), slice(radius, -radius))
    ours = as_tensor(apply_on_crop(crop, ops))
    torch.testing.assert_close(ours[within], theirs[within], atol=level(crop), rtol=0)


def test_hue_and_saturation_of_sixteen_bits_are_those_of_torchvision() -> None:
    crop = resize(image(3, np.uint16), (24, 32))
    (ops,) = color_ops(view_parameters(HUE=25 / 255))
    theirs = reference.adjust_hue(as_tensor(crop), 25 / 255)
    torch.testing.assert_close(as_tensor(apply_on_crop(crop, ops)), theirs, atol=1e-3, rtol=0)
    (ops,) = color_ops(view_parameters(SATURATION=0.7))
    theirs = reference.adjust_saturation(as_tensor(crop), 0.7)
    torch.testing.assert_close(as_tensor(apply_on_crop(crop, ops)), theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("channels", "dtype"), FORMS)
def test_device_and_worker_agree(channels: int, dtype: type) -> None:
    crop = resize(image(channels, dtype), (24, 32))
    color = {"HUE": 0.06, "SATURATION": 0.8} if channels == 3 else {}
    drawn = view_parameters(BRIGHTNESS=0.7, CONTRAST=1.2, BLUR_SIGMA=0.8, SOLARIZE=1, **color)
    (ops,) = color_ops(drawn, channels)
    on_crop = as_tensor(apply_on_crop(crop.copy(), ops)) * 255
    batch = torch.from_numpy(np.ascontiguousarray(np.moveaxis(crop, 2, 0)))[None]
    on_batch = apply_on_batch(batch, drawn, sigma_limit=2.0)[0]
    difference = (on_crop - on_batch).abs()
    near_threshold = (on_batch - 127.5).abs() < 2  # where a rounding decides whether a value is inverted
    assert difference[~near_threshold].max() <= (1.01 if dtype == np.uint8 else 0.02)


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (5, np.uint16)])
def test_views_of_both_stages_have_the_channels_of_the_images(channels: int, dtype: type) -> None:
    images, keys = [image(channels, dtype, seed=seed) for seed in range(3)], [SampleKey(0, 0, k, 0) for k in range(3)]
    crops = CropsConfig(global_size=(16, 32), local_size=(8, 12), num_local=2, degrees=10)
    views = build_multi_crop(crops, 0, color_in_worker=True, channels=channels)(images, keys)
    assert [tuple(block.shape) for block in views.blocks] == [(2, 3, channels, 16, 32), (2, 3, channels, 8, 12)]
    neutral = torch.cat([parameters.flatten(0, 1) for parameters in views.parameters])
    assert (neutral[:, columns.SATURATION] == 1).all() and not neutral[:, [columns.HUE, columns.GRAYSCALE]].any()
    augment = AugmentConfig(auto_augment="", padding=2, color_jitter=0.3, random_erasing_prob=1)
    supervised = build_supervised_transform(augment, (16, 32), 0, mean=[0.5] * channels)(images, keys)
    assert supervised.blocks[0].shape == (1, 3, channels, 16, 32)
    assert supervised.erasures is not None
    sizes = supervised.erasures.boxes[:, 3] * supervised.erasures.boxes[:, 4]
    assert len(supervised.erasures.noise) == channels * sizes.sum()


def test_a_policy_on_gray_is_that_on_gray_rgb() -> None:
    images, keys = [image(1, np.uint8, seed=seed) for seed in range(6)], [SampleKey(0, 0, k, 0) for k in range(6)]
    augment = AugmentConfig(crop_scale=(1, 1), ratio=(1.3, 1.3), random_erasing_prob=0)
    rgb = [np.repeat(each, 3, axis=2) for each in images]
    of_gray = build_supervised_transform(augment, (40, 52), 0, mean=[0.5])(images, keys).blocks[0]
    of_rgb = build_supervised_transform(augment, (40, 52), 0, mean=[0.5] * 3)(rgb, keys).blocks[0]
    assert of_gray.shape[2] == 1 and of_gray.float().std() > 10
    assert (of_gray[:, :, 0].int() - of_rgb[:, :, 0].int()).abs().max() <= 1
