"""Operations of policies: each compared with timm's implementation, which uses Pillow."""

import cv2
import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import LEVEL_TO_ARG, NAME_TO_OP

from common.data.augment.policy_ops import OPERATIONS, rotate, through_pillow, translate

FILL = (124, 116, 104)
MAGNITUDES = (1.0, 5.3, 9.0, 10.0)
WARPS = {"Rotate": 1.0, "ShearX": 1.0, "ShearY": 1.0}
"""Bounds of the mean error of operations with a different bicubic kernel; the others' is below 0.5 (rounding)."""


def photograph(height, width, seed):
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(2**k, 2**k, 3)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        / k
        for k in range(1, 8)
    ]
    return np.clip(sum(layers) * 45 + 120, 0, 255).astype(np.uint8)


def by_timm(name, pixels, arguments):
    settings = {"fillcolor": FILL, "resample": Image.Resampling.BICUBIC}
    return np.asarray(NAME_TO_OP[name](Image.fromarray(pixels), *arguments, **settings)).astype(int)


def by_opencv(name, pixels, arguments):
    return OPERATIONS[name](pixels, *arguments, fillcolor=FILL, resample=Image.Resampling.BICUBIC)


def arguments_of(name, magnitude):
    level = LEVEL_TO_ARG[name]
    return () if level is None else level(magnitude, {"translate_const": 40})


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("magnitude", MAGNITUDES)
def test_an_operation_agrees_with_pillow(name, magnitude):
    pixels = photograph(96, 112, seed=3)
    arguments = arguments_of(name, magnitude)
    if name.startswith("Posterize") and arguments[0] < 1:
        pytest.skip("Pillow rejects 0 bits")
    before = pixels.copy()
    actual = by_opencv(name, pixels, arguments)
    assert actual.dtype == np.uint8 and actual.shape == pixels.shape and np.array_equal(pixels, before)
    errors = np.abs(actual - by_timm(name, pixels, arguments))
    if name in WARPS:
        assert errors.mean() <= WARPS[name] and np.quantile(errors, 0.95) <= 5
    else:
        assert errors.mean() <= 0.5 and errors.max() <= 2


TABLES = ["AutoContrast", "Equalize", "Invert", "Posterize", "Solarize", "SolarizeAdd", "Brightness"]


@pytest.mark.parametrize("name", TABLES)
def test_lookup_tables_equal_pillow(name):
    pixels = photograph(40, 50, seed=5)
    for magnitude in MAGNITUDES[1:]:
        arguments = arguments_of(name, magnitude)
        assert np.array_equal(by_opencv(name, pixels, arguments), by_timm(name, pixels, arguments))


@pytest.mark.parametrize("name", ["AutoContrast", "Equalize"])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (16, 17), (24, 24)])
def test_histograms_of_small_and_flat_images(name, size):
    for pixels in (np.full((*size, 3), 77, np.uint8), photograph(*size, seed=1)):
        assert np.array_equal(by_opencv(name, pixels, ()), by_timm(name, pixels, ()))


@pytest.mark.parametrize("name", ["TranslateX", "TranslateY"])
@pytest.mark.parametrize("distance", [0.0, 0.3, 0.5, -0.5, 0.7, -0.7, 6.0, -13.25, 19.6, 30.0, -30.0])
def test_translation_agrees_with_pillow_up_to_rounding(name, distance):
    pixels = photograph(20, 20, seed=2)
    errors = np.abs(by_opencv(name, pixels, (distance,)) - by_timm(name, pixels, (distance,)))
    assert errors.max() <= 1


@pytest.mark.parametrize(
    "name", ["Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY", "TranslateXRel", "TranslateYRel"]
)
def test_magnitude_zero_changes_nothing(name):
    pixels = photograph(20, 30, seed=4)
    assert np.array_equal(OPERATIONS[name](pixels, 0.0, fillcolor=FILL), pixels)


def test_uncovered_pixels_get_the_fill_color():
    assert (translate(photograph(8, 8, seed=0), 3.0, axis=1, fillcolor=FILL)[:, 5:] == FILL).all()
    assert (rotate(photograph(20, 20, seed=0), 45.0, fillcolor=FILL)[0, 0] == FILL).all()


def test_posterize_to_zero_bits_is_black():
    assert not OPERATIONS["PosterizeIncreasing"](photograph(8, 8, seed=0), 0).any()


def test_other_operations_are_executed_by_pillow():
    pixels = photograph(12, 12, seed=6)
    expected = NAME_TO_OP["GaussianBlur"](Image.fromarray(pixels), 1.5)
    assert np.array_equal(through_pillow(NAME_TO_OP["GaussianBlur"])(pixels, 1.5), np.asarray(expected))
