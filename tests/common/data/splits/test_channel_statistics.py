"""Mean and standard deviation of channels, and what else is done with images that are not RGB of 8 bits before training."""

import logging
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from common.data.images.collections import FileImages, PixelImages
from common.data.images.decode import ImageDecoder
from common.data.sources.split import Split
from common.data.splits import channel_statistics
from common.data.splits.channel_statistics import measure_channels
from common.data.splits.thumbnails import thumbnail
from common.data.splits.verification import verify_and_cache
from common.errors import UserError


def split_of(images: list[npt.NDArray[np.generic]], decoder: ImageDecoder) -> Split:
    shapes = np.array([image.shape[:2] for image in images])
    flat = np.concatenate([image.reshape(-1) for image in images])
    collection = PixelImages([flat], shapes, block_length=len(images), decoder=decoder)
    return Split(images=collection, labels=None, class_names=())


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_mean_and_deviation_are_those_of_images_that_count_alike(dtype: type, bits: int) -> None:
    rng, highest = np.random.default_rng(0), np.iinfo(dtype).max
    images = [rng.integers(0, highest + 1, (size, 9, 4)).astype(dtype) for size in (4, 8, 30)]
    measured = measure_channels(split_of(images, ImageDecoder(channels=4, bits=bits)))
    unit = [image.reshape(-1, 4) / highest for image in images]
    mean = np.mean([values.mean(0) for values in unit], 0)
    square = np.mean([(values**2).mean(0) for values in unit], 0)
    np.testing.assert_allclose(measured.mean, mean, rtol=1e-5)
    np.testing.assert_allclose(measured.std, np.sqrt(square - mean**2), rtol=1e-4)
    assert measured.num_images == 3
    assert 0 <= measured.low < 0.05 and 0.95 < measured.high <= 1


def test_a_channel_without_information_is_named(caplog: pytest.LogCaptureFixture) -> None:
    images = [np.stack([np.full((4, 4), 7), np.arange(16).reshape(4, 4)], axis=2).astype(np.uint8)]
    measured = measure_channels(split_of(images, ImageDecoder(channels=2)))
    assert measured.std[0] == 1 and 0 < measured.std[1] < 0.02
    assert "the channels [0] (from 0) have the same value in all images" in caplog.text


def test_a_sample_is_bounded_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_statistics, "MAX_IMAGES", 5)
    images = [np.full((2, 2, 1), value, np.uint8) for value in range(100)]
    split = split_of(images, ImageDecoder(channels=1))
    measured = measure_channels(split)
    assert measured.num_images == 5 and measured == measure_channels(split)


def test_corrupt_images_do_not_count(tmp_path: Path) -> None:
    np.save(tmp_path / "good.npy", np.full((2, 2), 51, np.uint8))
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY")
    decoder = ImageDecoder(channels=1)
    images = FileImages(tmp_path, ["bad.npy", "good.npy"], decoder=decoder)
    measured = measure_channels(Split(images=images, labels=None, class_names=()))
    assert measured.mean == (0.2,) and measured.num_images == 1
    bad = FileImages(tmp_path, ["bad.npy"], decoder=decoder)
    with pytest.raises(UserError, match=r"^data\.mean = measured: none of the training images can be read"):
        measure_channels(Split(images=bad, labels=None, class_names=()))


def test_deep_images_are_cached_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 65536, (size, 7, 5)).astype(np.uint16) for size in (3, 6)]
    for number, image in enumerate(images):
        np.save(tmp_path / f"{number}.npy", image)
    files = FileImages(tmp_path, ["0.npy", "1.npy"], decoder=ImageDecoder(channels=5, bits=16))
    split = Split(images=files, labels=None, class_names=())
    num_bytes = sum(image.nbytes for image in images)
    keys = {"verify": "auto", "threads": 1, "max_corrupt": None}
    with caplog.at_level(logging.INFO):
        cached = verify_and_cache({"train": split}, cache_bytes=num_bytes, **keys).splits["train"]  # type: ignore[arg-type]
    assert isinstance(cached.images, PixelImages) and cached.images.num_bytes == num_bytes
    for number, image in enumerate(images):
        np.testing.assert_array_equal(cached.image(number), image)
    too_small = verify_and_cache({"train": split}, cache_bytes=num_bytes - 1, **keys).splits["train"]  # type: ignore[arg-type]
    assert too_small is split


@pytest.mark.parametrize(("channels", "chosen"), [(1, [0, 0, 0]), (2, [0, 1, 1]), (3, [0, 1, 2]), (5, [0, 1, 2])])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_thumbnails_have_three_channels_of_eight_bits(channels: int, chosen: list[int], dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (32, 32, channels)).astype(dtype)
    thumb = thumbnail(image)
    means = image.reshape(16, 2, 16, 2, channels).mean((1, 3))[..., chosen] / (1 if dtype == np.uint8 else 257)
    assert thumb.dtype == np.uint8 and np.abs(thumb - means).max() <= 1
