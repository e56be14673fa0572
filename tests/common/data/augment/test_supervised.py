"""Supervised transforms: compared with timm, torchvision and Pillow, and their dependence on keys."""

import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from timm.data.auto_augment import rand_augment_transform
from torchvision.transforms import functional as reference

from common.config import build
from common.data.augment.policies import build_policy
from common.data.augment.supervised import AugmentConfig, EvaluationTransform, build_supervised_transform
from common.errors import UserError
from common.rng import SampleKey

MEAN = (0.485, 0.456, 0.406)
PLAIN = {"auto_augment": "", "random_erasing_prob": 0.0, "hflip_prob": 0.0}
BICUBIC = reference.InterpolationMode.BICUBIC


NOTHING_DRAWN = {"auto_augment": "", "random_erasing_prob": 0.0, "padding": 0}


def pictures(count, height=40, width=50):
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (count, 3, 6, 6), generator=generator).float()
    smooth = torch.nn.functional.interpolate(small, size=(height, width), mode="bicubic").clamp(0, 255)
    return [image.permute(1, 2, 0).contiguous().numpy() for image in smooth.to(torch.uint8)]


def keys(count, epoch=0):
    return [SampleKey(epoch, index, index, 0) for index in range(count)]


def as_pillow(image):
    return Image.fromarray(image)


def difference(view, expected):
    return np.abs(view.permute(1, 2, 0).numpy().astype(float) - np.asarray(expected).astype(float))


def test_a_sample_depends_only_on_its_key():
    images = pictures(6)
    transform = build_supervised_transform(AugmentConfig(degrees=5, color_jitter=0.2), 24, seed=1, mean=MEAN)
    batch = transform(images, keys(6))
    random.seed(99)
    np.random.seed(99)
    for index in range(6):
        single = transform(images[index : index + 1], keys(6)[index : index + 1])
        assert torch.equal(single.blocks[0][:, 0], batch.blocks[0][:, index])
        of_sample = batch.erasures.boxes[:, 0] == index
        assert torch.equal(single.erasures.boxes[:, 1:], batch.erasures.boxes[of_sample][:, 1:])
    assert torch.equal(transform(images, keys(6)).erasures.noise, batch.erasures.noise)
    assert not torch.equal(transform(images, keys(6, epoch=1)).blocks[0], batch.blocks[0])
    repeated = [key._replace(repeat=1) for key in keys(6)]
    assert not torch.equal(transform(images, repeated).blocks[0], batch.blocks[0])
    other = build_supervised_transform(AugmentConfig(), 24, seed=2, mean=MEAN)
    assert not torch.equal(other(images, keys(6)).blocks[0], batch.blocks[0])


def test_views_do_not_depend_on_draws_that_nothing_uses(monkeypatch):
    """Without padding, policy and erasing no generator is built, and the views are those of a transform that erases nothing."""
    images, plain = pictures(4), build_supervised_transform(AugmentConfig(**NOTHING_DRAWN), 24, seed=1, mean=MEAN)
    erasing = build_supervised_transform(
        AugmentConfig(**NOTHING_DRAWN | {"random_erasing_prob": 1e-9}), 24, seed=1, mean=MEAN
    )
    expected = erasing(images, keys(4)).blocks[0]
    monkeypatch.setattr("common.data.augment.supervised.generator", None)
    assert torch.equal(plain(images, keys(4)).blocks[0], expected)


def test_global_random_states_are_unchanged():
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    build_supervised_transform(AugmentConfig(), 24, seed=1, mean=MEAN)(pictures(4), keys(4))
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected


def test_shapes_of_a_batch():
    images = [pictures(1, 20, 33)[0], pictures(1, 64, 64)[0]]
    blocks, parameters, erasures, *_ = build_supervised_transform(AugmentConfig(), 16, seed=1, mean=MEAN)(
        images, keys(2)
    )
    assert [block.shape for block in blocks] == [(1, 2, 3, 16, 16)] and blocks[0].dtype == torch.uint8
    assert parameters == [] and erasures is not None
    assert build_supervised_transform(AugmentConfig(**PLAIN), 16, 1, mean=MEAN)(images, keys(2)).erasures is None


def test_the_policy_equals_that_of_timms_training_transform():
    settings = {"translate_const": 14, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    reference_policy = rand_augment_transform("rand-m9-mstd0.5-inc1", settings)
    our_policy = build_policy("rand-m9-mstd0.5-inc1", 32, MEAN)
    image = as_pillow(pictures(1, 32, 32)[0])
    errors = []
    for seed in range(20):
        results, draws = [], []
        for policy, source in ((reference_policy, image), (our_policy, np.asarray(image))):
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
    common = {"random_erasing_prob": 0.0, "hflip_prob": 0.0, "crop_scale": (1.0, 1.0), "ratio": (1.0, 1.0)}
    with_policy = build_supervised_transform(AugmentConfig(auto_augment=policy, **common), 32, 1, mean=MEAN)
    without = build_supervised_transform(AugmentConfig(auto_augment="", **common), 32, 1, mean=MEAN)
    changed = with_policy(images, keys(16)).blocks[0] != without(images, keys(16)).blocks[0]
    assert changed.flatten(2).any(dim=2).sum() > 8
    assert np.array_equal(without(images, keys(16)).blocks[0][0].permute(0, 2, 3, 1), np.stack(images))


def test_color_jitter_is_brightness_contrast_and_saturation():
    images = pictures(60, 16, 16)
    config = AugmentConfig(**PLAIN, crop_scale=(1.0, 1.0), ratio=(1.0, 1.0), color_jitter=0.4)
    crops = build_supervised_transform(config, 16, 1, mean=MEAN)(images, keys(60)).blocks[0][0]
    brightness = crops.float().mean(dim=(1, 2, 3)) / torch.from_numpy(np.stack(images)).float().mean(dim=(1, 2, 3))
    assert brightness.min() < 0.75 and 1.2 < brightness.max() < 1.45
    darker = int(brightness.argmin())
    guess = ImageEnhance.Brightness(as_pillow(images[darker])).enhance(float(brightness[darker]))
    assert difference(crops[darker], guess).mean() < difference(crops[darker], as_pillow(images[darker])).mean()


@pytest.mark.parametrize("policy", ["rand-m10-n8-p1-inc1", "rand-m1-n8-p1", "v0"])
def test_posterize_to_zero_bits_is_black_instead_of_failing(policy):
    """Pillow 13 rejects 0 bits, which these policies draw; earlier versions returned black."""
    config = AugmentConfig(auto_augment=policy, random_erasing_prob=0.0)
    assert build_supervised_transform(config, 8, 1, mean=MEAN)(pictures(100, 8, 8), keys(100)).blocks[0].shape[1] == 100


@pytest.mark.parametrize(("mode", "numpy_mode"), [("zero", "constant"), ("reflect", "reflect")])
def test_padding_crops_the_padded_image_at_random(mode, numpy_mode):
    images = pictures(200, 12, 12)
    config = AugmentConfig(**PLAIN, padding=3, padding_mode=mode)
    crops = build_supervised_transform(config, 12, 1, mean=MEAN)(images, keys(200)).blocks[0][0].numpy()
    found = set()
    for image, crop in zip(images, crops, strict=True):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode=numpy_mode).transpose(2, 0, 1)
        positions = [
            (y, x) for y in range(7) for x in range(7) if np.array_equal(padded[:, y : y + 12, x : x + 12], crop)
        ]
        assert positions
        found.update(positions)
    assert len(found) > 40


@pytest.mark.parametrize(("height", "width"), [(48, 60), (61, 40), (32, 32), (49, 49), (8, 9)])
@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_evaluation_transform_is_resize_and_center_crop(height, width, crop_pct):
    (image,) = pictures(1, height, width)
    view = EvaluationTransform(32, crop_pct)([image], keys(1)).blocks[0][0, 0]
    resized = reference.resize(as_pillow(image), round(32 / crop_pct), reference.InterpolationMode.BICUBIC)
    expected = reference.center_crop(resized, [32, 32])
    assert view.shape == (3, 32, 32)
    assert difference(view, expected).mean() <= 0.1 and difference(view, expected).max() <= 2


@pytest.mark.parametrize(("height", "width"), [(48, 60), (61, 20), (32, 16), (64, 32)])
def test_a_portrait_evaluation_view_covers_its_size_or_is_squashed_to_it(height, width):
    (image,) = pictures(1, height, width)
    scale = max(32 / height, 16 / width)
    covering = reference.resize(as_pillow(image), [int(height * scale + 1e-9), int(width * scale + 1e-9)], BICUBIC)
    squashed = reference.resize(as_pillow(image), [32, 16], BICUBIC)
    for squash, expected in ((False, reference.center_crop(covering, [32, 16])), (True, squashed)):
        view = EvaluationTransform((32, 16), 1.0, squash=squash)([image], keys(1)).blocks[0][0, 0]
        assert view.shape == (3, 32, 16)
        assert difference(view, expected).mean() <= 0.25 and difference(view, expected).max() <= 2


def test_a_portrait_training_view_is_squashed_padded_and_cropped():
    images = pictures(60, 24, 24)
    config = AugmentConfig(**PLAIN, padding=2, crop_mode="squash")
    crops = build_supervised_transform(config, (24, 12), 1, mean=MEAN)(images, keys(60)).blocks[0][0].numpy()
    found = set()
    for image, crop in zip(images, crops, strict=True):
        squashed = EvaluationTransform((24, 12), 1.0, squash=True)([image], keys(1)).blocks[0][0, 0].numpy()
        padded = np.pad(squashed, ((0, 0), (2, 2), (2, 2)))
        positions = [
            (y, x) for y in range(5) for x in range(5) if np.array_equal(padded[:, y : y + 24, x : x + 12], crop)
        ]
        assert positions
        found.update(positions)
    assert len(found) > 15


def test_a_portrait_view_is_cropped_rotated_and_erased_within_its_bounds():
    config = AugmentConfig(degrees=10, translate=0.1, random_erasing_prob=1.0)
    blocks, _, erasures, *_ = build_supervised_transform(config, (24, 12), 1, mean=MEAN)(pictures(40, 30, 30), keys(40))
    assert blocks[0].shape == (1, 40, 3, 24, 12)
    _, top, left, height, width = erasures.boxes.T
    assert (top + height <= 24).all() and (left + width <= 12).all() and (top + height > 12).any()


def test_evaluation_views_are_in_the_order_of_the_images():
    images = pictures(3, 20, 24)
    transform = EvaluationTransform(16, 1.0)
    batch = transform(images, keys(3)).blocks[0]
    assert batch.shape == (1, 3, 3, 16, 16)
    assert all(torch.equal(batch[:, i], transform(images[i : i + 1], keys(1)).blocks[0][:, 0]) for i in range(3))


@pytest.mark.parametrize("policy", ["rand-m9-x3", "randaugment", "augmix-m3", "original-inc1", "rand-m", "rand_m9"])
def test_unknown_policies_are_rejected_with_the_choices(policy):
    with pytest.raises(UserError, match=r"auto_augment.*rand-m<magnitude>.*original"):
        build(AugmentConfig, {"auto_augment": policy}, source="recipe")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_scale", [0.0, 1.0]),
        ("ratio", [2.0, 1.0]),
        ("padding", -1),
        ("random_erasing_prob", 1.5),
        ("mixup", -0.1),
        ("label_smoothing", 1.1),
        ("aug_repeats", 0),
        ("crop_pct", 0.0),
        ("degrees", 200.0),
    ],
)
def test_values_out_of_range_are_reported_with_their_key(key, value):
    with pytest.raises(UserError, match=key):
        build(AugmentConfig, {key: value}, source="recipe")


def test_defaults_are_valid():
    assert list(AugmentConfig().problems()) == []


@pytest.mark.parametrize("padding", [0, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 60_000), (60_000, 1), (10, 20_000)])
def test_extreme_aspect_ratios_need_little_memory(shape, padding):
    """Resized without a crop, an image of 60,000 x 1 pixels would take 12 GB at 256 pixels."""
    images, keys = [np.full((*shape, 3), 90, dtype=np.uint8)], [SampleKey(0, 0, 0, 0)]
    transform = build_supervised_transform(
        AugmentConfig(auto_augment="", padding=padding, random_erasing_prob=0.0), 224, 0, mean=(0.5,) * 3
    )
    for block in (transform(images, keys).blocks[0], EvaluationTransform(224, 0.875)(images, keys).blocks[0]):
        assert block.shape == (1, 1, 3, 224, 224) and (block[..., 112, 112] == 90).all()


def test_an_image_of_extreme_aspect_ratio_is_evaluated_by_its_center():
    image = np.zeros((2, 400, 3), dtype=np.uint8)
    image[:, 195:205] = 200
    view = EvaluationTransform(8, 1.0)([image], [SampleKey(0, 0, 0, 0)]).blocks[0]
    assert (view == 200).all()


@pytest.mark.parametrize("value", ["", None, "none"])
def test_no_policy_can_be_said_in_a_recipe_and_on_a_command_line(value):
    """A shell removes the quotes of augment.auto_augment="", which the message advised."""
    assert build(AugmentConfig, {"auto_augment": value}, source="recipe") == AugmentConfig(auto_augment="")


@pytest.mark.parametrize(("policy", "most"), [("rand-tweights", 15), ("rand-m9-t3aw", 14)])
def test_weighted_policies_have_no_more_layers_than_operations(policy, most):
    """timm draws them without replacement: the first batch of a run failed."""
    names = [policy.replace("-t", f"-n{layers}-t") for layers in (most, most + 1)]
    build(AugmentConfig, {"auto_augment": names[0]}, source="recipe")
    config = AugmentConfig(auto_augment=names[0], random_erasing_prob=0.0)
    images = pictures(4, 32, 32)
    assert build_supervised_transform(config, 32, 1, mean=MEAN)(images, keys(4)).blocks[0].shape == (1, 4, 3, 32, 32)
    with pytest.raises(UserError, match="no more layers than"):
        build(AugmentConfig, {"auto_augment": names[1]}, source="recipe")
