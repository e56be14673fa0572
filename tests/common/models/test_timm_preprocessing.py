"""timm's evaluation of an export sees the pixels of ours, or config.json says where it does not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor

from common.data.augment.supervised import EvaluationTransform
from common.models.export import export_network
from common.models.networks import ModelConfig, build_network

MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
IMAGES = [(8, 8), (16, 40), (300, 200), (33, 47), (12, 16)]


def _export(folder: Path, size: tuple[int, int], **evaluation: Any) -> dict[str, Any]:
    export_network(
        build_network(ModelConfig(name="vit_mini"), image_size=size, num_classes=2),
        folder,
        model_name="vit_mini",
        class_names=["a", "b"],
        mean=MEAN,
        std=STD,
        image_size=size,
        metrics={},
        **evaluation,
    )
    return json.loads((folder / "config.json").read_text())


def _smooth_image(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    waves = [np.sin(5 * rows + k) * np.cos(7 * columns - k) for k in range(3)]
    return np.uint8(np.stack(waves, axis=-1) * 100 + 128)


def _differences(folder: Path, size: tuple[int, int], **evaluation: Any) -> list[Tensor]:
    """Return the absolute differences of the pixels, in 255ths, of the preprocessing that timm reads from the export."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model), is_training=False)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    differences = []
    for height, width in IMAGES:
        image = _smooth_image(height, width)
        ours = EvaluationTransform(size, **evaluation)([image], []).blocks[0][0, 0]
        differences.append((ours - 255 * (transform(Image.fromarray(image)) * std + mean)).abs())
    return differences


@pytest.mark.parametrize("crop_pct", [1.0, 0.95, 0.9, 0.875])
@pytest.mark.parametrize(
    ("size", "squash"), [((16, 16), False), ((32, 32), False), ((12, 12), True), ((24, 8), True)], ids=str
)
def test_timm_sees_the_pixels_of_the_evaluation(
    tmp_path: Path, size: tuple[int, int], squash: bool, crop_pct: float
) -> None:
    config = _export(tmp_path, size, crop_pct=crop_pct, squash=squash)
    for difference in _differences(tmp_path, size, crop_pct=crop_pct, squash=squash):
        assert difference.max() < 2.01
    assert config["evaluation"]["crop_pct"] == crop_pct


def test_a_size_that_timm_rounds_to_another_is_reached_by_another_crop_pct(tmp_path: Path) -> None:
    config = _export(tmp_path, (32, 32), crop_pct=0.875)
    assert config["evaluation"]["resized"] == [37, 37] and config["pretrained_cfg"]["crop_pct"] == 32 / 37


@pytest.mark.parametrize(
    ("size", "evaluation", "words"),
    [
        ((256, 128), {"crop_pct": 0.95, "squash": True}, "no crop_pct makes timm resize to 269x135"),
        ((24, 8), {"crop_pct": 1.0}, "by up to 1 pixel in its length"),
        ((16, 16), {"crop_pct": 1.0}, "exceeds 50 is first cropped"),
        ((16, 16), {"crop_pct": 1.0, "squash": True}, "upright by their EXIF orientation"),
    ],
)
def test_what_timm_cannot_express_is_stated(
    tmp_path: Path, size: tuple[int, int], evaluation: dict[str, Any], words: str
) -> None:
    config = _export(tmp_path, size, **evaluation)
    assert any(words in each for each in config["evaluation"]["different_in_timm"])
    assert config["pretrained_cfg"]["crop_mode"] == ("squash" if evaluation.get("squash") else "center")


def test_nothing_is_stated_that_timm_does_express(tmp_path: Path) -> None:
    stated = " ".join(_export(tmp_path, (16, 16), crop_pct=0.875, squash=True)["evaluation"]["different_in_timm"])
    assert "crop_pct" not in stated and "aspect ratio" not in stated and "length" not in stated
