"""Verification and caching: corrupt images are reported together before training; splits that fit are cached."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.images.collections import PixelImages
from common.data.images.decode import ImageDecoder
from common.data.sources.folders import FolderSource
from common.data.sources.split import Split
from common.data.splits import verification
from common.data.splits.verification import (
    MAX_VERIFY_ALL,
    SAMPLE_SIZE,
    VerifiedSplits,
    select_to_verify,
    verify_and_cache,
)
from common.errors import UserError

IMAGE_BYTES = 3 * 4 * 6


def folder_split(root: Path, count: int, *, corrupt: tuple[int, ...] = (), wide: tuple[int, ...] = ()) -> Split:
    """Return a split of images of 6 x 4 pixels on disk (`wide`: 600 x 4); `corrupt` ones are truncated."""
    root.mkdir()
    for number in range(count):
        path = root / f"{number:03d}.png"
        size = (600 if number in wide else 6, 4)
        Image.fromarray(np.full((size[1], size[0], 3), number % 251, np.uint8)).save(path)
        if number in corrupt:
            path.write_bytes(path.read_bytes()[:-30])
    return FolderSource(root, decoder=ImageDecoder()).read("train", labeled=False)


def verified(
    splits: dict[str, Split], *, verify: str = "auto", cache_bytes: int = 0, threads: int = 2
) -> dict[str, Split]:
    """Return the splits, verified with the defaults of these tests."""
    return verify_and_cache(splits, verify=verify, cache_bytes=cache_bytes, threads=threads, max_corrupt=None).splits


def is_cached(split: Split) -> bool:
    """Return whether the images of the split are decoded in memory."""
    return isinstance(split.images, PixelImages)


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_corrupt_images_of_all_splits_are_reported_together(tmp_path: Path, cache_bytes: int) -> None:
    splits = {
        "train": folder_split(tmp_path / "one", 20, corrupt=(3, 17)),
        "test": folder_split(tmp_path / "two", 5, corrupt=(1,)),
    }
    with pytest.raises(UserError) as caught:
        verified(splits, cache_bytes=cache_bytes)
    lines = str(caught.value).splitlines()
    assert lines[0] == "data.source: 3 of the 25 decoded images (of 25) are corrupt:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        str(tmp_path / name) for name in ("one/003.png", "one/017.png", "two/001.png")
    ]


def test_first_ten_corrupt_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        verified({"train": folder_split(tmp_path / "one", 14, corrupt=tuple(range(14)))})
    lines = str(caught.value).splitlines()
    assert len(lines) == 12 and lines[-1] == "  and 4 more"


def test_without_verification_or_cache_nothing_is_decoded(tmp_path: Path) -> None:
    split = folder_split(tmp_path / "one", 3)
    for path in (tmp_path / "one").iterdir():
        path.unlink()
    assert verified({"train": split}, verify="none")["train"] is split


def test_verified_images_depend_on_the_number_of_images() -> None:
    assert len(select_to_verify(MAX_VERIFY_ALL, "auto")) == MAX_VERIFY_ALL
    sample = select_to_verify(MAX_VERIFY_ALL + 1, "auto")
    assert (
        len(set(sample)) == SAMPLE_SIZE
        and max(sample) <= MAX_VERIFY_ALL
        and sample == select_to_verify(MAX_VERIFY_ALL + 1, "sample")
    )
    assert len(select_to_verify(MAX_VERIFY_ALL + 1, "all")) == MAX_VERIFY_ALL + 1
    assert len(select_to_verify(SAMPLE_SIZE + 1, "sample")) == SAMPLE_SIZE
    assert select_to_verify(5, "none") == []


@pytest.mark.parametrize("threads", [1, 3])
def test_cached_images_match_the_files(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_MIN_BYTES_FOR_THREADS", 0)
    split = folder_split(tmp_path / "one", 600, wide=(0, 255, 256, 300, 599))
    ready = verified({"train": split}, cache_bytes=10**7, threads=threads)["train"]
    assert is_cached(ready) and len(ready) == 600
    for index in (0, 1, 254, 255, 256, 257, 300, 301, 511, 512, 599):
        assert np.array_equal(ready.image(index), split.image(index))
        assert ready.name(index) == split.name(index)
    assert ready.file_names() == split.file_names()
    assert ready.fingerprint == split.fingerprint
    assert ready.select([599, 2]).image(0).shape == (4, 600, 3)


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_only_larger_images_are_decoded_by_several_threads(
    tmp_path: Path, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    pool = verification.ThreadPoolExecutor
    monkeypatch.setattr(verification, "ThreadPoolExecutor", lambda threads: used.append(threads) or pool(threads))
    small, large = folder_split(tmp_path / "small", 3), folder_split(tmp_path / "large", 3, wide=(0, 1, 2))
    verified({"train": small}, cache_bytes=cache_bytes, threads=3)
    assert set(used) == {1}
    verified({"train": large}, cache_bytes=cache_bytes, threads=3)
    assert used[-1] == 3


def test_cached_split_does_not_read_its_files(tmp_path: Path) -> None:
    ready = verified({"train": folder_split(tmp_path / "one", 3)}, cache_bytes=10**6)["train"]
    for path in (tmp_path / "one").iterdir():
        path.unlink()
    assert ready.image(2)[0, 0, 0] == 2


def test_cache_budget_is_used_in_the_order_of_the_splits(tmp_path: Path) -> None:
    splits = {name: folder_split(tmp_path / name, count) for name, count in (("train", 5), ("val", 8), ("test", 3))}
    ready = verified(splits, cache_bytes=8 * IMAGE_BYTES)
    assert [is_cached(split) for split in ready.values()] == [True, False, True]


def test_split_larger_than_estimated_is_verified_and_not_cached(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The size is estimated from evenly spaced images; here the large ones lie between them."""
    probed = set(np.linspace(0, 299, 64).astype(int).tolist())
    wide = tuple(number for number in range(300) if number not in probed)
    split = folder_split(tmp_path / "one", 300, wide=wide)
    with caplog.at_level(logging.INFO):
        ready = verified({"train": split}, cache_bytes=300 * IMAGE_BYTES)
    assert ready["train"] is split
    assert "decoding 300 of 300 train images once" in caplog.text


def test_decoded_images_are_not_verified_again() -> None:
    images = PixelImages([np.zeros(3, np.uint8)], np.ones((1, 2), np.int64), block_length=1, decoder=ImageDecoder())
    split = Split(images=images, labels=None, class_names=())
    for same in (split, split.select([0])):
        assert verified({"train": same}, cache_bytes=10**6)["train"] is same


def skipped(
    splits: dict[str, Split], *, max_corrupt: float, verify: str = "auto", cache_bytes: int = 0
) -> VerifiedSplits:
    """Verify with data.on_corrupt=skip."""
    return verify_and_cache(splits, verify=verify, cache_bytes=cache_bytes, threads=2, max_corrupt=max_corrupt)


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_skip_excludes_corrupt_evaluation_images(tmp_path: Path, cache_bytes: int) -> None:
    splits = {
        "train": folder_split(tmp_path / "one", 20, corrupt=(3, 17)),
        "test": folder_split(tmp_path / "two", 10, corrupt=(1,)),
    }
    ready, excluded = skipped(splits, max_corrupt=0.1, cache_bytes=cache_bytes)
    assert excluded == {"test": [str(tmp_path / "two" / "001.png")]}
    assert len(ready["test"]) == 9 and [int(ready["test"].image(i)[0, 0, 0]) for i in range(3)] == [0, 2, 3]
    assert len(ready["train"]) == 20 and ready["train"].image(4)[0, 0, 0] == 4
    for index in (3, 17):
        with pytest.raises(UserError, match=rf"{index:03d}\.png: the image is truncated"):
            ready["train"].image(index)


@pytest.mark.parametrize("verify", ["none", "sample"])
def test_skip_verifies_every_evaluation_image(tmp_path: Path, verify: str) -> None:
    splits = {name: folder_split(tmp_path / name, 20, corrupt=(5,)) for name in ("train", "validation")}
    ready, excluded = skipped(splits, max_corrupt=0.1, verify=verify)
    assert len(ready["validation"]) == 19 and list(excluded) == ["validation"]


@pytest.mark.parametrize("part", ["train", "test"])
def test_skip_stops_above_max_corrupt_and_names_images(tmp_path: Path, part: str) -> None:
    splits = {"train": folder_split(tmp_path / "one", 10), part: folder_split(tmp_path / "two", 10, corrupt=(1, 2))}
    with pytest.raises(UserError) as caught:
        skipped(splits, max_corrupt=0.1)
    first, *names = str(caught.value).splitlines()
    assert first.startswith(f"data.max_corrupt = 0.1: 2 of the 10 {part} images are corrupt")
    assert [name.split(":")[0].strip() for name in names] == [str(tmp_path / "two" / f"00{n}.png") for n in (1, 2)]


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_white_drawings_that_disappear_are_named(
    tmp_path: Path, cache_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    for name, color in (("white", (255, 255, 255)), ("red", (255, 0, 0))):
        drawing = np.zeros((8, 8, 4), np.uint8)
        drawing[2:6, 2:6] = [*color, 255]
        Image.fromarray(drawing).save(tmp_path / f"{name}.png")
    split = FolderSource(tmp_path, decoder=ImageDecoder()).read("train", labeled=False)
    with caplog.at_level(logging.WARNING):
        verified({"train": split}, cache_bytes=cache_bytes)
    (message,) = [record.getMessage() for record in caplog.records]
    assert "1 of 2 decoded images are entirely white, such as " in message
    assert "white.png'. Transparent pixels become white, where white drawings disappear" in message
    assert "red" not in message
