"""Where a measured normalization is from: the run itself when it resumes, the run of its weights, or its images."""

import json
from pathlib import Path

import numpy as np
import pytest

from common.data.config import DataConfig
from common.data.images.collections import PixelImages
from common.data.images.decode import ImageDecoder
from common.data.sources.split import Split
from common.data.splits.fingerprint import DATA_FILE
from common.data.splits.roles import Splits
from common.training.normalization import FACT, find_normalization, normalization_of

GRAY = DataConfig(channels=1, mean="measured", std="measured")


def splits_of(value: int) -> Splits:
    pixels = np.array([value - 10, value + 10], np.uint8)
    images = PixelImages([pixels], np.array([[1, 2]]), block_length=1, decoder=ImageDecoder(channels=1))
    train = Split(images=images, labels=None, class_names=())
    return Splits(train=train, validation=None, test=None, class_names=(), subset=None, excluded={})  # type: ignore[arg-type]


def write_export(folder: Path, **config: object) -> str:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def test_numbers_are_not_measured(tmp_path: Path) -> None:
    assert find_normalization(DataConfig(), splits_of(100), None, tmp_path, resumes=False) == {}


def test_a_run_that_resumes_has_the_numbers_it_began_with(tmp_path: Path) -> None:
    found = find_normalization(GRAY, splits_of(100), None, tmp_path, resumes=False)
    assert found == {FACT: {"mean": [0.392157], "std": [0.0392157], "images": 1}}
    (tmp_path / DATA_FILE).write_text(json.dumps(found))
    assert find_normalization(GRAY, splits_of(200), None, tmp_path, resumes=True) == found
    assert find_normalization(GRAY, splits_of(200), None, tmp_path, resumes=False) != found


def test_the_numbers_of_weights_of_a_run_count_for_as_many_channels(tmp_path: Path) -> None:
    own = write_export(tmp_path / "own", network={}, pretrained_cfg={"mean": [0.5], "std": [0.25]})
    rgb = write_export(tmp_path / "rgb", network={}, pretrained_cfg={"mean": [0.5] * 3, "std": [0.25] * 3})
    of_timm = write_export(tmp_path / "timm", pretrained_cfg={"mean": [0.1], "std": [0.1]})
    expected = {FACT: {"mean": [0.5], "std": [0.25], "of": own}}
    assert find_normalization(GRAY, splits_of(100), own, tmp_path, resumes=False) == expected
    for init in (rgb, of_timm, "timm:vit_small_patch16_224.dino"):
        found = find_normalization(GRAY, splits_of(100), init, tmp_path, resumes=False)
        assert found[FACT]["mean"] == [0.392157]
    assert normalization_of("timm:vit_small_patch16_224.dino") is None


def test_weights_of_a_run_with_another_normalization_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = write_export(tmp_path / "other", network={}, pretrained_cfg={"mean": [0.5] * 3, "std": [0.5] * 3})
    own = DataConfig()
    same = write_export(
        tmp_path / "same",
        network={},
        pretrained_cfg=dict(zip(("mean", "std"), map(list, own.statistics()), strict=True)),
    )
    for init, resumes, warned in (
        (other, False, True),
        (other, True, False),
        (same, False, False),
        (None, False, False),
    ):
        caplog.clear()
        assert find_normalization(own, splits_of(100), init, tmp_path, resumes=resumes) == {}
        assert [f"{other} was trained on images with mean [0.5, 0.5, 0.5]" in text for text in caplog.messages] == [
            True
        ] * warned
