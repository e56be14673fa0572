"""Color augmentation, compared with formulas, Pillow and torchvision; the CPU and device implementations with each other."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torchvision.transforms import functional as reference

from common.data.augment import parameters as columns
from common.data.augment.color import apply_on_crop, color_maps, color_ops
from common.data.augment.color_on_device import apply_on_batch
from common.data.augment.multi_crop import CropsConfig, build_multi_crop
from common.data.augment.parameters import ORDERS, draw_parameters, draw_uniforms
from common.rng import SampleKey

LUMA = np.array([0.299, 0.587, 0.114])


def photograph(size, seed):
    """Return an (S, S, 3) uint8 image with detail at all scales and mild colors."""
    rng = np.random.default_rng(seed)
    gray = sum(
        cv2.resize(rng.normal(size=(2**k, 2**k)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC) / k
        for k in range(1, 7)
    )
    color = cv2.resize(rng.normal(size=(4, 4, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(gray[..., None] * 38 + color * 18 + 122, 0, 255).astype(np.uint8)


def draw_view_parameters(count, size=48):
    views = build_multi_crop(CropsConfig(), 0, color_in_worker=False)
    keys = [SampleKey(0, 0, index, 0) for index in range(count)]
    sides = np.full(count, size)
    return draw_parameters(views.ranges, sides, sides, draw_uniforms(0, keys, views.num_views, stream="views"))


def view_parameters(**values):
    parameters = torch.zeros(1, columns.NUM_PARAMETERS)
    parameters[:, columns.BRIGHTNESS : columns.SATURATION + 1] = 1
    for name, value in values.items():
        parameters[:, getattr(columns, name)] = value
    return parameters


def on_crop(crop, parameters):
    """Run the worker's implementation with (1, P) parameters."""
    (ops,) = color_ops(parameters)
    return apply_on_crop(crop, ops)


def on_device(crop, parameters, sigma_limit=2.0):
    batch = torch.from_numpy(crop.copy()).permute(2, 0, 1)[None]
    return apply_on_batch(batch, parameters, sigma_limit=sigma_limit)[0].permute(1, 2, 0).numpy()


def reference_by_pillow(crop, parameters):
    """Apply the published implementation: Pillow's enhancers, torchvision's hue, Pillow's blur and solarize, in the drawn order."""
    image = Image.fromarray(crop)
    operations = [
        lambda img: ImageEnhance.Brightness(img).enhance(parameters[columns.BRIGHTNESS]),
        lambda img: ImageEnhance.Contrast(img).enhance(parameters[columns.CONTRAST]),
        lambda img: ImageEnhance.Color(img).enhance(parameters[columns.SATURATION]),
        lambda img: reference.adjust_hue(img, parameters[columns.HUE]),
    ]
    for index in ORDERS[int(parameters[columns.ORDER])]:
        image = operations[index](image)
    if parameters[columns.GRAYSCALE]:
        image = ImageOps.grayscale(image).convert("RGB")
    if parameters[columns.BLUR_SIGMA]:
        image = image.filter(ImageFilter.GaussianBlur(radius=parameters[columns.BLUR_SIGMA]))
    if parameters[columns.SOLARIZE]:
        image = ImageOps.solarize(image)
    return np.asarray(image).astype(float)


def test_both_implementations_agree_with_pillow():
    errors = {"worker": [], "device": []}
    for seed, drawn in enumerate(draw_view_parameters(12).reshape(-1, columns.NUM_PARAMETERS)):
        crop = photograph(48, seed)
        expected = reference_by_pillow(crop, drawn.tolist())
        parameters = torch.from_numpy(drawn)[None]
        errors["worker"].append(np.abs(on_crop(crop, parameters) - expected).mean())
        errors["device"].append(np.abs(on_device(crop, parameters) - expected).mean())
    assert len(errors["worker"]) == 120
    assert np.mean(errors["worker"]) <= 1.5 and np.mean(errors["device"]) <= 1.5
    assert max(errors["worker"]) <= 5 and max(errors["device"]) <= 5


@pytest.mark.parametrize("run", [on_crop, on_device])
def test_mean_brightness_agrees_with_pillow(run):
    """Pillow truncates after each operation, which accumulates to one level and more."""
    differences = []
    for seed, drawn in enumerate(draw_view_parameters(12).reshape(-1, columns.NUM_PARAMETERS)):
        crop = photograph(48, seed)
        expected = reference_by_pillow(crop, drawn.tolist())
        differences.append((run(crop, torch.from_numpy(drawn)[None]) - expected).mean())
    assert abs(np.mean(differences)) <= 0.35


def test_implementations_agree_with_each_other():
    drawn = torch.from_numpy(draw_view_parameters(12)).flatten(0, 1)
    crops = [photograph(48, seed) for seed in range(len(drawn))]
    batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    device = apply_on_batch(batch, drawn, sigma_limit=2.0).permute(0, 2, 3, 1).numpy()
    worker = np.stack([on_crop(crop, parameters[None]) for crop, parameters in zip(crops, drawn, strict=True)])
    difference = np.abs(device - worker)
    assert difference.mean() < 0.3 and np.quantile(difference, 0.999) <= 5


@pytest.mark.parametrize("order", range(24))
def test_color_maps_equal_sequential_operations(order):
    brightness, contrast, saturation = 1.3, 0.7, 1.2
    parameters = view_parameters(
        BRIGHTNESS=brightness, CONTRAST=contrast, SATURATION=saturation, HUE=0.06, ORDER=order, GRAYSCALE=order % 2
    )
    pixels = np.random.default_rng(order).random((500, 3)) * 255
    operations = [
        lambda x: brightness * x,
        lambda x: contrast * x + (1 - contrast) * (x @ LUMA).mean(),
        lambda x: saturation * x + (1 - saturation) * (x @ LUMA)[:, None],
        lambda x: x[:, [1, 2, 0]],
        lambda x: (x @ LUMA)[:, None].repeat(3, axis=1) if order % 2 else x,
    ]
    expected = pixels
    for index in (*ORDERS[order], 4):
        expected = operations[index](expected)
    linear, from_mean, constant, hue = (values[0].double().numpy() for values in color_maps(parameters))
    before = pixels @ linear[0].T + from_mean[0] @ pixels.mean(axis=0)
    shifted = operations[3](before)
    assert shifted @ linear[1].T + from_mean[1] @ shifted.mean(axis=0) == pytest.approx(expected, abs=1e-3)
    assert hue == 15
    # Each of the three enhancements truncates by half a level; brightness scales the truncation before it in the same map.
    half = -0.499
    expected_constants = [0.0, 0.0]
    after = 0
    for index in ORDERS[order]:
        if index == 3:
            after = 1
        else:
            expected_constants[after] = expected_constants[after] * (brightness if index == 0 else 1) + half
    assert constant == pytest.approx(expected_constants, abs=1e-6)


def test_without_hue_shift_everything_is_in_one_map():
    linear, from_mean, _, hue = color_maps(
        view_parameters(BRIGHTNESS=0.8, CONTRAST=1.2, HUE=0.003, ORDER=9, GRAYSCALE=1)
    )
    assert hue == 0 and torch.equal(linear[0, 1], torch.eye(3)) and not from_mean[0, 1].any()
    (ops,) = color_ops(view_parameters(SATURATION=0.7, HUE=-0.003))
    assert ops.before is not None and (ops.hue, ops.after) == (0, None)


@pytest.mark.parametrize(("run", "bound"), [(on_crop, 1.2), (on_device, 0.02)])
@pytest.mark.parametrize("hue", [-0.5, -0.1, 0.03, 0.1, 1 / 3])
def test_hue_shift_agrees_with_pillow(run, bound, hue):
    crop = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    crop[:8] = crop[:8, :, :1]
    expected = np.asarray(reference.adjust_hue(Image.fromarray(crop), hue)).astype(float)
    assert np.abs(run(crop, view_parameters(HUE=hue)) - expected).mean() <= bound


@pytest.mark.parametrize("run", [on_crop, on_device])
def test_neutral_parameters_change_nothing(run):
    crop = photograph(20, 1)
    assert np.array_equal(run(crop, view_parameters()), crop)


@pytest.mark.parametrize(
    "change", [{}, {"BRIGHTNESS": 0.5}, {"HUE": 0.2}, {"GRAYSCALE": 1}, {"BLUR_SIGMA": 1.0}, {"SOLARIZE": 1}]
)
def test_no_color_operations_where_no_view_of_the_batch_has_any(change):
    """Bit by bit what the composed maps give, which a batch takes as soon as one of its views is changed."""
    crop = photograph(20, 1)
    batch = torch.cat([view_parameters(**change), view_parameters(CONTRAST=0.5)])
    assert np.array_equal(apply_on_crop(crop, color_ops(batch)[0]), apply_on_crop(crop, color_ops(batch[:1])[0]))


@pytest.mark.parametrize("run", [on_crop, on_device])
def test_solarize_inverts_values_of_128_and_above(run):
    crop = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = np.asarray(ImageOps.solarize(Image.fromarray(crop)))
    assert np.array_equal(run(crop, view_parameters(SOLARIZE=1)), expected)


@pytest.mark.parametrize("run", [on_crop, on_device])
def test_grayscale_is_luma_in_all_channels(run):
    crop = photograph(20, 2)
    gray = run(crop, view_parameters(GRAYSCALE=1))
    assert np.abs(gray - (crop @ LUMA)[..., None]).max() <= 1


@pytest.mark.parametrize("run", [on_crop, on_device])
@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_is_gaussian_with_replicated_edges(run, sigma):
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
    assert np.abs(run(crop, view_parameters(BLUR_SIGMA=sigma)) - expected).max() <= 1.5


def test_each_image_of_a_batch_uses_its_own_parameters():
    parameters = torch.cat(
        [
            view_parameters(),
            view_parameters(BRIGHTNESS=0.5),
            view_parameters(BLUR_SIGMA=1.5),
            view_parameters(GRAYSCALE=1, SOLARIZE=1),
        ]
    )
    crop = photograph(16, 4)
    batch = torch.from_numpy(np.stack([crop] * 4)).permute(0, 3, 1, 2)
    batched = apply_on_batch(batch, parameters, sigma_limit=1.5)
    for index in range(4):
        single = apply_on_batch(batch[:1], parameters[index : index + 1], sigma_limit=1.5)
        assert torch.equal(batched[index : index + 1], single)
    assert torch.equal(batched[1], (batch[1] * 0.5).floor())


def test_apply_on_batch_never_reads_values_on_the_host():
    """On the meta device there are no values, so reading one fails."""
    parameters = torch.zeros(4, columns.NUM_PARAMETERS, device="meta")
    result = apply_on_batch(torch.zeros(4, 3, 8, 8, dtype=torch.uint8, device="meta"), parameters, sigma_limit=2.0)
    assert result.shape == (4, 3, 8, 8) and result.is_meta and result.dtype == torch.float32


def test_a_sigma_limit_of_zero_disables_blur():
    crop = photograph(16, 5)
    assert np.array_equal(on_device(crop, view_parameters(), sigma_limit=0.0), crop)
