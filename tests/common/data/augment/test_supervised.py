"""Tests of the fine-tuner's views: against timm, torchvision and Pillow, and what they depend on."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from timm.data.auto_augment import rand_augment_transform
from torchvision.transforms import functional as reference

from common.config import build
from common.data.augment.policies import build_policy
from common.data.augment.supervised import AugmentConfig, EvaluationView, build_supervised_view
from common.errors import UserError
from common.rng import SampleKey

MEAN = (0.485, 0.456, 0.406)
PLAIN = {"auto_augment": "", "erasing": 0.0, "flip": 0.0}
BICUBIC = reference.InterpolationMode.BICUBIC


def pictures(count, height=40, width=50):
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (count, 3, 6, 6), generator=generator).float()
    smooth = torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 255)
    return list(smooth.to(torch.uint8))


def keys(count, epoch=0):
    return [SampleKey(epoch, place, place, 0) for place in range(count)]


def as_pillow(image):
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def difference(image, expected):
    return np.abs(image.permute(1, 2, 0).numpy().astype(float) - np.asarray(expected).astype(float))


def test_a_sample_depends_on_its_key_alone():
    images = pictures(6)
    view = build_supervised_view(AugmentConfig(rotation_degrees=5, colour_jitter=0.2), 24, seed=1, mean=MEAN)
    together = view(images, keys(6))
    random.seed(99)
    np.random.seed(99)
    for place in range(6):
        alone = view(images[place : place + 1], keys(6)[place : place + 1])
        assert torch.equal(alone.blocks[0][:, 0], together.blocks[0][:, place])
        own = together.erasures.boxes[:, 0] == place
        assert torch.equal(alone.erasures.boxes[:, 1:], together.erasures.boxes[own][:, 1:])
    assert torch.equal(view(images, keys(6)).erasures.noise, together.erasures.noise)
    assert not torch.equal(view(images, keys(6, epoch=1)).blocks[0], together.blocks[0])
    again = [key._replace(repeat=1) for key in keys(6)]
    assert not torch.equal(view(images, again).blocks[0], together.blocks[0])
    other = build_supervised_view(AugmentConfig(), 24, seed=2, mean=MEAN)
    assert not torch.equal(other(images, keys(6)).blocks[0], together.blocks[0])


def test_global_random_states_are_left_as_they_were():
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    build_supervised_view(AugmentConfig(), 24, seed=1, mean=MEAN)(pictures(4), keys(4))
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_shapes_of_a_batch():
    images = [pictures(1, 20, 33)[0], pictures(1, 64, 64)[0]]
    blocks, parameters, erasures, *_ = build_supervised_view(AugmentConfig(), 16, seed=1, mean=MEAN)(images, keys(2))
    assert [block.shape for block in blocks] == [(1, 2, 3, 16, 16)] and blocks[0].dtype == torch.uint8
    assert parameters == [] and erasures is not None
    assert build_supervised_view(AugmentConfig(**PLAIN), 16, 1, mean=MEAN)(images, keys(2)).erasures is None


def test_the_policy_is_timms_as_its_own_training_transform_builds_it():
    settings = {"translate_const": 14, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    theirs = rand_augment_transform("rand-m9-mstd0.5-inc1", settings)
    ours = build_policy("rand-m9-mstd0.5-inc1", 32, MEAN)
    image = as_pillow(pictures(1, 32, 32)[0])
    errors = []
    for seed in range(20):
        results, draws = [], []
        for policy, source in ((theirs, image), (ours, np.asarray(image))):
            random.seed(seed)
            np.random.seed(seed)
            results.append(np.asarray(policy(source)).astype(float))
            draws.append((random.random(), np.random.rand()))
        assert draws[0] == draws[1]
        errors.append(np.abs(results[0] - results[1]).mean())
    assert np.mean(errors) <= 0.5 and max(errors) <= 3


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "rand-m5-n3-p0.7-tweights", "original", "v0-mstd0.5", "3a"])
def test_policies_change_images(policy):
    images = pictures(16, 32, 32)
    common = {"erasing": 0.0, "flip": 0.0, "crop_scale": (1.0, 1.0), "aspect": (1.0, 1.0)}
    with_policy = build_supervised_view(AugmentConfig(auto_augment=policy, **common), 32, 1, mean=MEAN)
    without = build_supervised_view(AugmentConfig(auto_augment="", **common), 32, 1, mean=MEAN)
    changed = with_policy(images, keys(16)).blocks[0] != without(images, keys(16)).blocks[0]
    assert changed.flatten(2).any(dim=2).sum() > 8
    assert torch.equal(without(images, keys(16)).blocks[0][0], torch.stack(images))


def test_colour_jitter_is_brightness_contrast_and_saturation():
    images = pictures(60, 16, 16)
    config = AugmentConfig(**PLAIN, crop_scale=(1.0, 1.0), aspect=(1.0, 1.0), colour_jitter=0.4)
    crops = build_supervised_view(config, 16, 1, mean=MEAN)(images, keys(60)).blocks[0][0]
    brightness = crops.float().mean(dim=(1, 2, 3)) / torch.stack(images).float().mean(dim=(1, 2, 3))
    assert brightness.min() < 0.75 and 1.2 < brightness.max() < 1.45
    darker = int(brightness.argmin())
    guess = ImageEnhance.Brightness(as_pillow(images[darker])).enhance(float(brightness[darker]))
    assert difference(crops[darker], guess).mean() < difference(crops[darker], as_pillow(images[darker])).mean()


@pytest.mark.parametrize("policy", ["rand-m10-n8-p1-inc1", "rand-m1-n8-p1", "v0"])
def test_posterizing_to_no_bits_blackens_instead_of_failing(policy):
    """Pillow 13 refuses 0 bits, which these policies draw; earlier it returned black."""
    config = AugmentConfig(auto_augment=policy, erasing=0.0)
    assert build_supervised_view(config, 8, 1, mean=MEAN)(pictures(100, 8, 8), keys(100)).blocks[0].shape[1] == 100


@pytest.mark.parametrize(("mode", "numpy_mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_padding_cuts_windows_of_the_padded_image(mode, numpy_mode):
    images = pictures(200, 12, 12)
    config = AugmentConfig(**PLAIN, padding=3, padding_mode=mode)
    crops = build_supervised_view(config, 12, 1, mean=MEAN)(images, keys(200)).blocks[0][0].numpy()
    found = set()
    for image, crop in zip(images, crops, strict=True):
        padded = np.pad(image.numpy(), ((0, 0), (3, 3), (3, 3)), mode=numpy_mode)
        places = [(y, x) for y in range(7) for x in range(7) if np.array_equal(padded[:, y : y + 12, x : x + 12], crop)]
        assert places
        found.update(places)
    assert len(found) > 40


@pytest.mark.parametrize(("height", "width"), [(48, 60), (61, 40), (32, 32), (49, 49), (8, 9)])
@pytest.mark.parametrize("ratio", [1.0, 0.875])
def test_evaluation_view_is_resize_and_centre_crop(height, width, ratio):
    (image,) = pictures(1, height, width)
    view = EvaluationView(32, ratio)([image], keys(1)).blocks[0][0, 0]
    resized = reference.resize(as_pillow(image), round(32 / ratio), reference.InterpolationMode.BICUBIC)
    expected = reference.center_crop(resized, [32, 32])
    assert view.shape == (3, 32, 32)
    assert difference(view, expected).mean() <= 0.1 and difference(view, expected).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(48, 60), (61, 20), (32, 16), (64, 32)])
def test_an_upright_evaluation_view_covers_its_size_or_is_stretched_to_it(height, width):
    (image,) = pictures(1, height, width)
    scale = max(32 / height, 16 / width)
    covering = reference.resize(as_pillow(image), [int(height * scale + 1e-9), int(width * scale + 1e-9)], BICUBIC)
    stretched = reference.resize(as_pillow(image), [32, 16], BICUBIC)
    for stretch, expected in ((False, reference.center_crop(covering, [32, 16])), (True, stretched)):
        view = EvaluationView((32, 16), 1.0, stretch=stretch)([image], keys(1)).blocks[0][0, 0]
        assert view.shape == (3, 32, 16)
        assert difference(view, expected).mean() <= 0.25 and difference(view, expected).max() <= 2


def test_an_upright_training_view_is_stretched_padded_and_cut():
    images = pictures(60, 24, 24)
    config = AugmentConfig(**PLAIN, padding=2, stretch=True)
    crops = build_supervised_view(config, (24, 12), 1, mean=MEAN)(images, keys(60)).blocks[0][0].numpy()
    found = set()
    for image, crop in zip(images, crops, strict=True):
        narrow = EvaluationView((24, 12), 1.0, stretch=True)([image], keys(1)).blocks[0][0, 0].numpy()
        padded = np.pad(narrow, ((0, 0), (2, 2), (2, 2)))
        places = [(y, x) for y in range(5) for x in range(5) if np.array_equal(padded[:, y : y + 24, x : x + 12], crop)]
        assert places
        found.update(places)
    assert len(found) > 15


def test_an_upright_view_is_cropped_turned_and_erased_within_its_bounds():
    config = AugmentConfig(rotation_degrees=10, shift=0.1, erasing=1.0)
    blocks, _, erasures, *_ = build_supervised_view(config, (24, 12), 1, mean=MEAN)(pictures(40, 30, 30), keys(40))
    assert blocks[0].shape == (1, 40, 3, 24, 12)
    _, top, left, height, width = erasures.boxes.T
    assert (top + height <= 24).all() and (left + width <= 12).all() and (top + height > 12).any()


def test_evaluation_views_of_several_images_stand_in_order():
    images = pictures(3, 20, 24)
    view = EvaluationView(16, 1.0)
    together = view(images, keys(3)).blocks[0]
    assert together.shape == (1, 3, 3, 16, 16)
    assert all(torch.equal(together[:, i], view(images[i : i + 1], keys(1)).blocks[0][:, 0]) for i in range(3))


@pytest.mark.parametrize("policy", ["rand-m9-x3", "randaugment", "augmix-m3", "original-inc1", "rand-m", "rand_m9"])
def test_unknown_policies_are_refused_with_the_choices(policy):
    with pytest.raises(UserError, match=r"auto_augment.*rand-m<magnitude>.*original"):
        build(AugmentConfig, {"auto_augment": policy}, source="recipe")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_scale", [0.0, 1.0]),
        ("aspect", [2.0, 1.0]),
        ("padding", -1),
        ("erasing", 1.5),
        ("mixup", -0.1),
        ("smoothing", 1.1),
        ("repeats", 0),
        ("evaluation_crop", 0.0),
        ("rotation_degrees", 200.0),
    ],
)
def test_settings_out_of_range_are_named(key, value):
    with pytest.raises(UserError, match=key):
        build(AugmentConfig, {key: value}, source="recipe")


def test_default_settings_are_in_range():
    assert list(AugmentConfig().problems()) == []


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 60_000), (60_000, 1), (10, 20_000)])
def test_points_and_strips_make_views_in_little_memory(shape, padding):
    """Resized in whole, a strip of 60,000 x 1 pixels would take 12 GB at 256 pixels."""
    images, keys = [torch.full((3, *shape), 90, dtype=torch.uint8)], [SampleKey(0, 0, 0, 0)]
    view = build_supervised_view(AugmentConfig(auto_augment="", padding=padding, erasing=0.0), 224, 0, mean=(0.5,) * 3)
    for block in (view(images, keys).blocks[0], EvaluationView(224, 0.875)(images, keys).blocks[0]):
        assert block.shape == (1, 1, 3, 224, 224) and (block[..., 112, 112] == 90).all()


def test_a_strip_is_judged_by_its_middle():
    strip = torch.zeros(3, 2, 400, dtype=torch.uint8)
    strip[:, :, 195:205] = 200
    view = EvaluationView(8, 1.0)([strip], [SampleKey(0, 0, 0, 0)]).blocks[0]
    assert (view == 200).all()
