"""Hashes of contents: images with the same bytes are found, and labels that contradict each other."""

from pathlib import Path

import numpy as np
import pytest

from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.splits import content_hashes as module
from common.data.splits.content_hashes import UNREADABLE, content_hashes, exact_duplicates, label_conflicts


def files(root: Path, contents: list[bytes]) -> FileImages:
    """Write files and return them as images."""
    root.mkdir()
    for number, content in enumerate(contents):
        (root / f"{number:04d}.png").write_bytes(content)
    return FileImages(root, [f"{number:04d}.png" for number in range(len(contents))], decoder=ImageDecoder())


@pytest.mark.parametrize("threads", [1, 3])
def test_equal_bytes_have_equal_hashes_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(module, "_MIN_BYTES_FOR_THREADS", 0)
    contents = [bytes([number % 200]) * 9 for number in range(600)]
    hashes = content_hashes(files(tmp_path / "files", contents), threads=threads)
    assert hashes.dtype == np.uint64 and len(np.unique(hashes)) == 200 and (hashes[:400] == hashes[200:]).all()


def test_unreadable_and_empty_files_equal_no_other(tmp_path: Path) -> None:
    images = files(tmp_path / "files", [b"", b"a", b"b"])
    (tmp_path / "files" / "0001.png").unlink()
    hashes = content_hashes(images, threads=1)
    assert hashes[:2].tolist() == [UNREADABLE, UNREADABLE] and hashes[2] != UNREADABLE
    assert exact_duplicates(hashes, hashes).of_first.tolist() == [-1, -1, 2]


def test_partners_with_the_same_content() -> None:
    first, second = np.array([5, 9, 7, 9], np.uint64), np.array([9, 1, 5], np.uint64)
    assert exact_duplicates(first, second).of_first.tolist() == [2, 0, -1, 0]
    assert exact_duplicates(first, second).of_second.tolist() == [1, -1, 0]
    assert exact_duplicates(first, second[:0]).of_first.tolist() == [-1] * 4


def test_same_content_with_other_labels_is_a_conflict() -> None:
    hashes, labels = np.array([5, 9, 5, 5, 9], np.uint64), np.array([0, 1, 1, 0, 1])
    assert label_conflicts(hashes, labels) == [(0, 2)]


def test_copies_without_a_label_are_no_conflict() -> None:
    hashes, labels = np.array([7, 5, 9, 5, 5, 9], np.uint64), np.array([-1, 0, -1, 1, -1, 0])
    assert label_conflicts(hashes, labels) == [(1, 3)]
