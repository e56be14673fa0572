"""Verification and caching: broken images are reported together before training, decoded ones kept when they fit."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data.images.collections import PixelImages
from common.data.sources.folders import FolderSource
from common.data.sources.split import Split
from common.data.splits import verification
from common.data.splits.verification import ALL_UP_TO, SAMPLE, Ready, choose_to_verify, verify_and_cache
from common.errors import UserError

IMAGE_BYTES = 3 * 4 * 6


def folder_split(root: Path, count: int, *, broken: tuple[int, ...] = (), wide: tuple[int, ...] = ()) -> Split:
    """Return a split of 6 by 4 images on disk (the `wide` ones 600 by 4), some of them cut short."""
    root.mkdir()
    for number in range(count):
        path = root / f"{number:03d}.png"
        size = (600 if number in wide else 6, 4)
        Image.fromarray(np.full((size[1], size[0], 3), number % 251, np.uint8)).save(path)
        if number in broken:
            path.write_bytes(path.read_bytes()[:-30])
    return FolderSource(root).read("train", labelled=False)


def prepared(
    splits: dict[str, Split], *, verify: str = "auto", cache_bytes: int = 0, threads: int = 2
) -> dict[str, Split]:
    """Verify with the defaults of these tests."""
    return verify_and_cache(splits, verify=verify, cache_bytes=cache_bytes, threads=threads, max_errors=None).splits


def decodes(split: Split) -> bool:
    """Say whether the split's images are pixels in memory."""
    return isinstance(split.images, PixelImages)


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_all_broken_images_of_all_splits_are_reported_at_once(tmp_path: Path, cache_bytes: int) -> None:
    splits = {
        "train": folder_split(tmp_path / "one", 20, broken=(3, 17)),
        "test": folder_split(tmp_path / "two", 5, broken=(1,)),
    }
    with pytest.raises(UserError) as caught:
        prepared(splits, cache_bytes=cache_bytes)
    lines = str(caught.value).splitlines()
    assert lines[0] == "data.source: 3 of the 25 images looked at (of 25) cannot be used:"
    assert [line.split(":")[0].strip() for line in lines[1:]] == [
        str(tmp_path / name) for name in ("one/003.png", "one/017.png", "two/001.png")
    ]


def test_of_many_broken_images_the_first_ten_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        prepared({"train": folder_split(tmp_path / "one", 14, broken=tuple(range(14)))})
    lines = str(caught.value).splitlines()
    assert len(lines) == 12 and lines[-1] == "  and 4 more"


def test_without_verification_or_cache_nothing_is_decoded(tmp_path: Path) -> None:
    split = folder_split(tmp_path / "one", 3)
    for path in (tmp_path / "one").iterdir():
        path.unlink()
    assert prepared({"train": split}, verify="none")["train"] is split


def test_what_is_verified_follows_the_number_of_images() -> None:
    assert len(choose_to_verify(ALL_UP_TO, "auto")) == ALL_UP_TO
    sample = choose_to_verify(ALL_UP_TO + 1, "auto")
    assert (
        len(set(sample)) == SAMPLE and max(sample) <= ALL_UP_TO and sample == choose_to_verify(ALL_UP_TO + 1, "sample")
    )
    assert len(choose_to_verify(ALL_UP_TO + 1, "all")) == ALL_UP_TO + 1
    assert len(choose_to_verify(SAMPLE + 1, "sample")) == SAMPLE
    assert choose_to_verify(5, "none") == []


@pytest.mark.parametrize("threads", [1, 3])
def test_cached_images_are_the_files_images(tmp_path: Path, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "_WORTH_THREADS", 0)
    split = folder_split(tmp_path / "one", 600, wide=(0, 255, 256, 300, 599))
    ready = prepared({"train": split}, cache_bytes=10**7, threads=threads)["train"]
    assert decodes(ready) and len(ready) == 600
    for index in (0, 1, 254, 255, 256, 257, 300, 301, 511, 512, 599):
        assert ready.image(index).equal(split.image(index))
        assert ready.name(index) == split.name(index) and ready.file_name(index) == split.file_name(index)
    assert ready.fingerprint == split.fingerprint
    assert ready.select([599, 2]).image(0).shape == (3, 4, 600)


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_only_larger_images_are_decoded_by_several_threads(
    tmp_path: Path, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    pool = verification.ThreadPoolExecutor
    monkeypatch.setattr(verification, "ThreadPoolExecutor", lambda threads: used.append(threads) or pool(threads))
    small, large = folder_split(tmp_path / "small", 3), folder_split(tmp_path / "large", 3, wide=(0, 1, 2))
    prepared({"train": small}, cache_bytes=cache_bytes, threads=3)
    assert set(used) == {1}
    prepared({"train": large}, cache_bytes=cache_bytes, threads=3)
    assert used[-1] == 3


def test_a_cached_split_needs_its_files_no_more(tmp_path: Path) -> None:
    ready = prepared({"train": folder_split(tmp_path / "one", 3)}, cache_bytes=10**6)["train"]
    for path in (tmp_path / "one").iterdir():
        path.unlink()
    assert ready.image(2)[0, 0, 0] == 2


def test_the_memory_goes_to_the_splits_in_order(tmp_path: Path) -> None:
    splits = {name: folder_split(tmp_path / name, count) for name, count in (("train", 5), ("val", 8), ("test", 3))}
    ready = prepared(splits, cache_bytes=8 * IMAGE_BYTES)
    assert [decodes(split) for split in ready.values()] == [True, False, True]


def test_images_that_do_not_fit_after_all_are_verified_and_left_on_disk(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The size is judged by evenly spaced images; here the large ones lie between them."""
    probed = set(np.linspace(0, 299, 64).astype(int).tolist())
    wide = tuple(number for number in range(300) if number not in probed)
    split = folder_split(tmp_path / "one", 300, wide=wide)
    with caplog.at_level(logging.INFO):
        ready = prepared({"train": split}, cache_bytes=300 * IMAGE_BYTES)
    assert ready["train"] is split
    assert "decoding 300 of 300 train images once" in caplog.text


def test_pixels_in_memory_are_not_looked_at_again() -> None:
    images = PixelImages([np.zeros(3, np.uint8)], np.ones((1, 2), np.int64), block_length=1)
    split = Split(images=images, labels=None, class_names=())
    for same in (split, split.select([0])):
        assert prepared({"train": same}, cache_bytes=10**6)["train"] is same


def skipped(splits: dict[str, Split], *, max_errors: float, verify: str = "auto", cache_bytes: int = 0) -> Ready:
    """Verify with data.on_error=skip."""
    return verify_and_cache(splits, verify=verify, cache_bytes=cache_bytes, threads=2, max_errors=max_errors)


@pytest.mark.parametrize("cache_bytes", [0, 10**6])
def test_skipping_leaves_broken_images_out_of_what_is_only_looked_at(tmp_path: Path, cache_bytes: int) -> None:
    splits = {
        "train": folder_split(tmp_path / "one", 20, broken=(3, 17)),
        "test": folder_split(tmp_path / "two", 10, broken=(1,)),
    }
    ready, left_out = skipped(splits, max_errors=0.1, cache_bytes=cache_bytes)
    assert left_out == {"test": [str(tmp_path / "two" / "001.png")]}
    assert len(ready["test"]) == 9 and [int(ready["test"].image(i)[0, 0, 0]) for i in range(3)] == [0, 2, 3]
    assert len(ready["train"]) == 20 and ready["train"].image(4)[0, 0, 0] == 4
    for broken in (3, 17):
        with pytest.raises(UserError, match=rf"{broken:03d}\.png: the image is truncated"):
            ready["train"].image(broken)


@pytest.mark.parametrize("verify", ["none", "sample"])
def test_skipping_looks_at_every_image_that_cannot_be_replaced(tmp_path: Path, verify: str) -> None:
    splits = {name: folder_split(tmp_path / name, 20, broken=(5,)) for name in ("train", "validation")}
    ready, left_out = skipped(splits, max_errors=0.1, verify=verify)
    assert len(ready["validation"]) == 19 and list(left_out) == ["validation"]


@pytest.mark.parametrize("part", ["train", "test"])
def test_skipping_stops_at_its_bound_and_names_images(tmp_path: Path, part: str) -> None:
    splits = {"train": folder_split(tmp_path / "one", 10), part: folder_split(tmp_path / "two", 10, broken=(1, 2))}
    with pytest.raises(UserError) as caught:
        skipped(splits, max_errors=0.1)
    first, *names = str(caught.value).splitlines()
    assert first.startswith(f"data.max_errors = 0.1: 2 of the 10 {part} images are broken")
    assert [name.split(":")[0].strip() for name in names] == [str(tmp_path / "two" / f"00{n}.png") for n in (1, 2)]
