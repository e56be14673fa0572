"""Parameters of views: compared with the scalar reference implementation, and their dependence on keys."""

import math

import numpy as np
import pytest

from common.data.augment import parameters as columns
from common.data.augment.multi_crop import CropsConfig, build_multi_crop
from common.data.augment.parameters import draw_crops, draw_parameters, draw_uniforms
from common.rng import SampleKey

KEYS = [SampleKey(epoch, 0, index, repeat) for epoch in range(3) for index in range(40) for repeat in range(2)]


def reference_crop(scale, aspect, height, width, uniforms):
    """Return the crop of torchvision's RandomResizedCrop.get_params for given uniform random numbers."""
    for attempt in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * uniforms[attempt])
        log_low, log_high = math.log(aspect[0]), math.log(aspect[1])
        ratio = math.exp(log_low + (log_high - log_low) * uniforms[10 + attempt])
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(uniforms[20] * (height - h + 1)), int(uniforms[21] * (width - w + 1)), h, w
    w, h = width, height
    if width / height < aspect[0]:
        h = round(w / aspect[0])
    elif width / height > aspect[1]:
        w = round(h * aspect[1])
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("scale", [(0.4, 1.0), (0.05, 0.4), (0.9, 1.0)])
def test_crops_equal_the_scalar_reference_implementation(scale):
    sizes = np.array([(375, 500), (8, 8), (500, 40), (40, 500), (1, 1), (3, 300), (224, 224)])
    uniforms = np.random.default_rng(0).random((len(sizes), 50, 36))
    crops = draw_crops(np.array([scale] * 50), (3 / 4, 4 / 3), sizes[:, 0], sizes[:, 1], uniforms)
    for (height, width), image_crops, image_uniforms in zip(sizes.tolist(), crops, uniforms, strict=True):
        for crop, crop_uniforms in zip(image_crops, image_uniforms, strict=True):
            assert tuple(crop) == reference_crop(scale, (3 / 4, 4 / 3), height, width, crop_uniforms)
            top, left, h, w = crop
            assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and h >= 1 and w >= 1


def draw(config, keys=KEYS, seed=7, side=64):
    views = build_multi_crop(config, seed, color_in_worker=False)
    sides = np.full(len(keys), side)
    return draw_parameters(views.ranges, sides, sides, draw_uniforms(seed, keys, views.num_views, stream="views"))


def test_a_view_depends_only_on_its_key_and_index():
    drawn = draw(CropsConfig(degrees=10, translate=0.1))
    single = draw(CropsConfig(degrees=10, translate=0.1), keys=KEYS[17:18])
    fewer = draw(CropsConfig(degrees=10, translate=0.1, num_local=3))
    assert np.array_equal(drawn[17:18], single)
    assert np.array_equal(drawn[:, :5], fewer)


def test_epoch_index_repeat_view_and_seed_all_matter():
    keys = [SampleKey(0, 0, 5, 0), SampleKey(1, 0, 5, 0), SampleKey(0, 0, 6, 0), SampleKey(0, 0, 5, 1)]
    uniforms = draw_uniforms(7, keys, 3, stream="views").reshape(12, -1)
    assert len(np.unique(uniforms)) == uniforms.size
    assert not np.isin(draw_uniforms(8, keys, 3, stream="views"), uniforms).any()
    moved = [key._replace(position=99) for key in keys]
    assert np.array_equal(draw_uniforms(7, moved, 3, stream="views").reshape(12, -1), uniforms)


def test_dino_probabilities_and_ranges():
    drawn = draw(CropsConfig(), keys=[SampleKey(0, 0, index, 0) for index in range(3000)])
    blurred = (drawn[..., columns.BLUR_SIGMA] > 0).mean(axis=0)
    assert blurred[0] == 1
    assert blurred[1] == pytest.approx(0.1, abs=0.03) and blurred[2:] == pytest.approx(0.5, abs=0.05)
    solarized = drawn[..., columns.SOLARIZE].mean(axis=0)
    assert solarized[1] == pytest.approx(0.2, abs=0.03) and solarized[[0, 2, 9]].max() == 0
    assert drawn[..., columns.FLIP].mean() == pytest.approx(0.5, abs=0.02)
    assert drawn[..., columns.GRAYSCALE].mean() == pytest.approx(0.2, abs=0.02)
    sigma = drawn[:, 0, columns.BLUR_SIGMA]
    assert 0.1 <= sigma.min() < 0.12 and 1.98 < sigma.max() <= 2.0
    for column, low, high in (
        (columns.BRIGHTNESS, 0.6, 1.4),
        (columns.CONTRAST, 0.6, 1.4),
        (columns.SATURATION, 0.8, 1.2),
        (columns.HUE, -0.1, 0.1),
    ):
        values = drawn[..., column]
        assert values.min() == pytest.approx(low, abs=0.01) and values.max() == pytest.approx(high, abs=0.01)
        unchanged = values == (0 if column == columns.HUE else 1)
        assert unchanged.mean() == pytest.approx(0.2, abs=0.02)
    assert set(np.unique(drawn[..., columns.ORDER])) == set(range(24))
    area = drawn[..., columns.HEIGHT] * drawn[..., columns.WIDTH] / 64**2
    assert area[:, :2].min() > 0.38 and area[:, 2:].max() < 0.42 and area[:, 2:].min() < 0.06
    assert not drawn[..., [columns.ANGLE, columns.TRANSLATE_X, columns.TRANSLATE_Y]].any()


def test_rotation_and_translation_are_symmetric():
    drawn = draw(CropsConfig(degrees=20, translate=0.1))
    for column, bound in ((columns.ANGLE, 20), (columns.TRANSLATE_X, 0.1), (columns.TRANSLATE_Y, 0.1)):
        values = drawn[..., column]
        assert abs(values).max() <= bound * (1 + 1e-6) and values.min() < -0.95 * bound and values.max() > 0.95 * bound
        assert abs(values.mean()) < 0.05 * bound
