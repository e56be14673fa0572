"""Tests of the photometry: against plain formulas, Pillow and torchvision, and one executor against the other."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torchvision.transforms import functional as reference

from common.data.augment import parameters as columns
from common.data.augment.color import apply_on_batch, apply_on_crop, colour_maps, crop_steps
from common.data.augment.multi_crop import ViewsConfig, build_multi_crop
from common.data.augment.parameters import ORDERS, draw_uniforms, draw_views
from common.rng import SampleKey

LUMA = np.array([0.299, 0.587, 0.114])


def photograph(size, seed):
    """An (S, S, 3) uint8 image with detail at all scales and mild colours."""
    rng = np.random.default_rng(seed)
    grey = sum(
        cv2.resize(rng.normal(size=(2**k, 2**k)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC) / k
        for k in range(1, 7)
    )
    colour = cv2.resize(rng.normal(size=(4, 4, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(grey[..., None] * 38 + colour * 18 + 122, 0, 255).astype(np.uint8)


def drawn_records(count, size=48):
    views = build_multi_crop(ViewsConfig(), 0, photometry_in_worker=False)
    keys = [SampleKey(0, 0, index, 0) for index in range(count)]
    sides = np.full(count, size)
    return draw_views(views.ranges, sides, sides, draw_uniforms(0, keys, views.num_views, stream="views"))


def record(**values):
    numbers = torch.zeros(1, columns.NUM_PARAMETERS)
    numbers[:, columns.BRIGHTNESS : columns.SATURATION + 1] = 1
    for name, value in values.items():
        numbers[:, getattr(columns, name)] = value
    return numbers


def on_crop(crop, records):
    """Run the worker's executor with a (1, P) record."""
    (steps,) = crop_steps(records)
    return apply_on_crop(crop, steps)


def on_device(crop, records, sigma_limit=2.0):
    batch = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None]
    return apply_on_batch(batch, records, sigma_limit=sigma_limit)[0].permute(1, 2, 0).numpy()


def by_pillow(crop, numbers):
    """The published program: Pillow's enhancers, torchvision's hue, Pillow's blur and solarize, in the drawn order."""
    image = Image.fromarray(crop)
    steps = [
        lambda img: ImageEnhance.Brightness(img).enhance(numbers[columns.BRIGHTNESS]),
        lambda img: ImageEnhance.Contrast(img).enhance(numbers[columns.CONTRAST]),
        lambda img: ImageEnhance.Color(img).enhance(numbers[columns.SATURATION]),
        lambda img: reference.adjust_hue(img, numbers[columns.HUE]),
    ]
    for step in ORDERS[int(numbers[columns.ORDER])]:
        image = steps[step](image)
    if numbers[columns.GREY]:
        image = ImageOps.grayscale(image).convert("RGB")
    if numbers[columns.SIGMA]:
        image = image.filter(ImageFilter.GaussianBlur(radius=numbers[columns.SIGMA]))
    if numbers[columns.SOLARIZE]:
        image = ImageOps.solarize(image)
    return np.asarray(image).astype(float)


def test_both_executors_agree_with_pillow():
    errors = {"worker": [], "device": []}
    for seed, numbers in enumerate(drawn_records(12).reshape(-1, columns.NUM_PARAMETERS)):
        crop = photograph(48, seed)
        expected = by_pillow(crop, numbers.tolist())
        records = torch.from_numpy(numbers)[None]
        errors["worker"].append(np.abs(on_crop(crop, records) - expected).mean())
        errors["device"].append(np.abs(on_device(crop, records) - expected).mean())
    assert len(errors["worker"]) == 120
    assert np.mean(errors["worker"]) <= 1.5 and np.mean(errors["device"]) <= 1.5
    assert max(errors["worker"]) <= 5 and max(errors["device"]) <= 5


@pytest.mark.parametrize("run", [on_crop, on_device])
def test_nothing_is_darker_or_brighter_than_by_pillow(run):
    """Pillow cuts fractions off after each step, which adds up to a level and more."""
    excess = []
    for seed, numbers in enumerate(drawn_records(12).reshape(-1, columns.NUM_PARAMETERS)):
        crop = photograph(48, seed)
        excess.append((run(crop, torch.from_numpy(numbers)[None]) - by_pillow(crop, numbers.tolist())).mean())
    assert abs(np.mean(excess)) <= 0.35


def test_executors_agree_with_each_other():
    drawn = torch.from_numpy(drawn_records(12)).flatten(0, 1)
    crops = [photograph(48, seed) for seed in range(len(drawn))]
    batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    device = apply_on_batch(batch, drawn, sigma_limit=2.0).permute(0, 2, 3, 1).numpy()
    worker = np.stack([on_crop(crop, own[None]) for crop, own in zip(crops, drawn, strict=True)])
    difference = np.abs(device - worker)
    assert difference.mean() < 0.3 and np.quantile(difference, 0.999) <= 5


@pytest.mark.parametrize("order", range(24))
def test_colour_maps_are_the_steps_one_after_another(order):
    brightness, contrast, saturation = 1.3, 0.7, 1.2
    records = record(
        BRIGHTNESS=brightness, CONTRAST=contrast, SATURATION=saturation, HUE=0.06, ORDER=order, GREY=order % 2
    )
    pixels = np.random.default_rng(order).random((500, 3)) * 255
    steps = [
        lambda x: brightness * x,
        lambda x: contrast * x + (1 - contrast) * (x @ LUMA).mean(),
        lambda x: saturation * x + (1 - saturation) * (x @ LUMA)[:, None],
        lambda x: x[:, [1, 2, 0]],
        lambda x: (x @ LUMA)[:, None].repeat(3, axis=1) if order % 2 else x,
    ]
    expected = pixels
    for step in (*ORDERS[order], 4):
        expected = steps[step](expected)
    linear, from_mean, constant, hue = (values[0].double().numpy() for values in colour_maps(records))
    before = pixels @ linear[0].T + from_mean[0] @ pixels.mean(axis=0)
    turned = steps[3](before)
    assert turned @ linear[1].T + from_mean[1] @ turned.mean(axis=0) == pytest.approx(expected, abs=1e-3)
    assert hue == 15
    # Each of the three enhancements cuts off half a level; a brightness scales what was cut off before it, in its own map.
    half = -0.499
    expected_constants = [0.0, 0.0]
    after = 0
    for step in ORDERS[order]:
        if step == 3:
            after = 1
        else:
            expected_constants[after] = expected_constants[after] * (brightness if step == 0 else 1) + half
    assert constant == pytest.approx(expected_constants, abs=1e-6)


def test_without_a_hue_one_map_does_all():
    linear, from_mean, _, hue = colour_maps(record(BRIGHTNESS=0.8, CONTRAST=1.2, HUE=0.003, ORDER=9, GREY=1))
    assert hue == 0 and torch.equal(linear[0, 1], torch.eye(3)) and not from_mean[0, 1].any()
    (steps,) = crop_steps(record(SATURATION=0.7, HUE=-0.003))
    assert steps.before is not None and (steps.hue, steps.after) == (0, None)


@pytest.mark.parametrize(("run", "bound"), [(on_crop, 1.2), (on_device, 0.02)])
@pytest.mark.parametrize("hue", [-0.5, -0.1, 0.03, 0.1, 1 / 3])
def test_the_hue_turns_as_in_pillow(run, bound, hue):
    crop = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    crop[:8] = crop[:8, :, :1]
    expected = np.asarray(reference.adjust_hue(Image.fromarray(crop), hue)).astype(float)
    assert np.abs(run(crop, record(HUE=hue)) - expected).mean() <= bound


@pytest.mark.parametrize("run", [on_crop, on_device])
def test_neutral_records_change_nothing(run):
    crop = photograph(20, 1)
    assert np.array_equal(run(crop, record()), crop)


@pytest.mark.parametrize("run", [on_crop, on_device])
def test_solarize_inverts_from_128_on(run):
    crop = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = np.asarray(ImageOps.solarize(Image.fromarray(crop)))
    assert np.array_equal(run(crop, record(SOLARIZE=1)), expected)


@pytest.mark.parametrize("run", [on_crop, on_device])
def test_grey_is_luma_in_all_colours(run):
    crop = photograph(20, 2)
    grey = run(crop, record(GREY=1))
    assert np.abs(grey - (crop @ LUMA)[..., None]).max() <= 1


@pytest.mark.parametrize("run", [on_crop, on_device])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_a_gaussian_with_repeated_edges(run, sigma):
    crop = photograph(24, 3)
    radius = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(crop.astype(float), ((radius, radius), (radius, radius), (0, 0)), mode="edge")
    expected = sum(
        weights[i] * weights[j] * padded[i : i + 24, j : j + 24]
        for i in range(len(weights))
        for j in range(len(weights))
    )
    assert np.abs(run(crop, record(SIGMA=sigma)) - expected).max() <= 1.5


def test_a_batch_treats_each_image_by_its_own_record():
    records = torch.cat([record(), record(BRIGHTNESS=0.5), record(SIGMA=1.5), record(GREY=1, SOLARIZE=1)])
    crop = photograph(16, 4)
    batch = torch.from_numpy(np.stack([crop] * 4)).permute(0, 3, 1, 2)
    together = apply_on_batch(batch, records, sigma_limit=1.5)
    for place in range(4):
        alone = apply_on_batch(batch[:1], records[place : place + 1], sigma_limit=1.5)
        assert torch.equal(together[place : place + 1], alone)
    assert torch.equal(together[1], (batch[1] * 0.5).floor())


def test_the_batch_executor_never_waits_for_a_value():
    """On the meta device there are no values, so whatever asks for one fails."""
    records = torch.zeros(4, columns.NUM_PARAMETERS, device="meta")
    result = apply_on_batch(torch.zeros(4, 3, 8, 8, dtype=torch.uint8, device="meta"), records, sigma_limit=2.0)
    assert result.shape == (4, 3, 8, 8) and result.is_meta and result.dtype == torch.float32


def test_no_blur_kernel_is_run_where_none_is_allowed():
    crop = photograph(16, 5)
    assert np.array_equal(on_device(crop, record(), sigma_limit=0.0), crop)
