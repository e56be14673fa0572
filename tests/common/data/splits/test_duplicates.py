"""Duplicates between the parts of a data set: counted, named and, with data.duplicates=drop, excluded from training."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from textures import recompress, resize, textures

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.splits import duplicates as module
from common.data.splits.duplicates import Duplicates, find_duplicates
from common.data.splits.roles import Splits
from common.errors import UserError

PER_CLASS = {"train": 12, "validation": 6, "test": 8}


def write_images(root: Path) -> Path:
    """Write images of two classes in three splits, and copies of some of them in other splits."""
    images = iter(textures(2 * sum(PER_CLASS.values()), seed=0, side=32))
    for split, count in PER_CLASS.items():
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(next(images)).save(root / split / name / f"{number:02d}.png")

    def read(name: str) -> np.ndarray:
        return np.asarray(Image.open(root / name))

    def write(name: str, image: np.ndarray) -> None:
        Image.fromarray(image).save(root / name)

    (root / "train/cat/00.png").write_bytes((root / "test/cat/03.png").read_bytes())
    write("train/cat/01.png", resize(read("test/cat/04.png"), 48, 48))
    write("train/dog/02.png", read("validation/dog/05.png")[:, ::-1])
    write("validation/dog/01.png", recompress(read("test/dog/06.png"), 60))
    (root / "train/dog/09.png").write_bytes((root / "train/cat/08.png").read_bytes())
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_images(tmp_path / "images")


def opened(root: Path, *, labeled: bool = True, **options: Any) -> tuple[Splits, Duplicates]:
    """Return the splits of the folder and their duplicates."""
    config = DataConfig(source=str(root), **{"workers": 0, **options})
    splits = open_splits(config, labeled=labeled)
    return splits, splits.duplicates or find_duplicates(splits, config)


def counts(found: Duplicates) -> dict[str, tuple[int, int]]:
    """Return the numbers of exact and near duplicates by pair of parts."""
    return {name: (entry["exact"], entry["near"]) for name, entry in found.summary().items() if "/" in name}


def names(splits: Splits) -> list[str]:
    """Return the training images, as class/file."""
    return ["/".join(Path(splits.train.name(index)).parts[-2:]) for index in range(len(splits.train))]


ALL = {"train/validation": (0, 1), "train/test": (1, 1), "validation/test": (0, 1)}
EXACT = {"train/validation": (0, 0), "train/test": (1, 0), "validation/test": (0, 0)}


@pytest.mark.parametrize(("mode", "expected"), [("auto", ALL), ("warn", ALL), ("ignore", EXACT)])
@pytest.mark.parametrize("workers", [0, 3])
def test_duplicates_are_counted_by_pair_of_parts(
    root: Path, mode: str, expected: dict[str, tuple[int, int]], workers: int
) -> None:
    splits, found = opened(root, duplicates=mode, workers=workers)
    assert counts(found) == expected and len(splits.train) == 24
    assert list(found.summary()["skipped"]) == (["near"] if mode == "ignore" else [])


def test_examples_are_named_exact_ones_first(root: Path) -> None:
    _, found = opened(root)
    assert found.summary()["train/test"]["examples"] == [
        [str(root / "test/cat/03.png"), str(root / "train/cat/00.png")],
        [str(root / "test/cat/04.png"), str(root / "train/cat/01.png")],
    ]


def test_log_has_a_line_per_pair_of_parts_and_one_for_labels(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, found = opened(root, duplicates="warn")
    caplog.clear()
    found.log()
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == 4
    assert lines[1].startswith(
        "data: 2 of the 16 test images have duplicates among the training images (1 with the same content, 1"
    )
    assert f"{root}/test/cat/03.png = {root}/train/cat/00.png" in lines[1]
    assert lines[1].endswith("Set data.duplicates=drop in both stages to exclude the 2 training images.")
    assert "12 validation images" in lines[0] and "among the validation images" in lines[2]
    assert f"{root}/train/cat/08.png ('cat') = {root}/train/dog/09.png ('dog')" in lines[3]


def test_test_images_with_another_label_than_their_duplicate_are_named(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Such an image makes a metric too low, not too good."""
    (root / "train/dog/00.png").write_bytes((root / "test/cat/05.png").read_bytes())
    _, found = opened(root, duplicates="warn")
    caplog.clear()
    found.log()
    (line,) = [record.getMessage() for record in caplog.records if "another label than their" in record.getMessage()]
    assert line == (
        "data: 1 of these test images has another label than their duplicate, such as"
        f" {root}/test/cat/05.png ('cat') = {root}/train/dog/00.png ('dog'). Correct the labels."
    )
    _, unlabeled = opened(root, labeled=False, duplicates="warn")
    unlabeled.log()


def test_drop_excludes_the_same_training_images_in_both_stages(root: Path) -> None:
    all_names = names(opened(root)[0])
    dropped = {"cat/00.png", "cat/01.png", "dog/02.png"}
    for labeled in (True, False):
        splits, found = opened(root, labeled=labeled, duplicates="drop")
        assert names(splits) == [name for name in all_names if name not in dropped]
        assert found.summary()["dropped"] == 3
        assert splits.test is not None and splits.validation is not None
        assert (len(splits.validation), len(splits.test)) == (12, 16)
    subset = opened(root, duplicates="drop", fraction=0.5)[0]
    assert set(names(subset)) == set(names(opened(root, fraction=0.5)[0])) - dropped


def test_subset_is_that_of_the_remaining_images(root: Path, tmp_path: Path) -> None:
    splits, found = opened(root, duplicates="drop")
    assert splits.subset.class_counts == {"cat": 10, "dog": 11} and len(splits.subset) == len(splits.train) == 21
    assert len(found.hashes["train"]) == 21
    splits.subset.save(tmp_path / "subset.json")
    assert names(opened(root, subset_file=str(tmp_path / "subset.json"))[0]) == names(splits)


def test_held_out_images_are_compared_too(tmp_path: Path) -> None:
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / name).mkdir()
        for number, image in enumerate(textures(10, seed=label, side=32)):
            Image.fromarray(image).save(tmp_path / name / f"{number}.png")
            Image.fromarray(image[:, ::-1]).save(tmp_path / name / f"{number} mirrored.png")
    splits, found = opened(tmp_path, duplicates="drop")
    assert found.summary()["dropped"] > 0
    again = find_duplicates(splits, DataConfig(source=str(tmp_path), workers=0, duplicates="warn"))
    assert not again.leaked().any()


def test_class_of_duplicates_only_is_refused(root: Path) -> None:
    for number in range(12):
        (root / f"train/dog/{number:02d}.png").write_bytes((root / f"test/dog/{number % 8:02d}.png").read_bytes())
    with pytest.raises(UserError, match="data.duplicates is 'drop', which leaves 'dog' without images"):
        opened(root, duplicates="drop")


def test_limits_of_auto_are_logged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counts(opened(root, cache_megabytes=0)[1]) == ALL
    monkeypatch.setattr(module, "MAX_DECODED_BYTES", 1000)
    assert counts(opened(root)[1]) == ALL
    skipped = opened(root, cache_megabytes=0)[1].summary()["skipped"]
    assert list(skipped) == ["near"] and "images again would take long. data.duplicates=warn" in skipped["near"]
    assert counts(opened(root, cache_megabytes=0, duplicates="warn")[1]) == ALL
    monkeypatch.setattr(module, "MAX_HASHED_BYTES", 1000)
    assert "data.duplicates=warn" in opened(root)[1].summary()["skipped"]["exact"]
    monkeypatch.setattr(module, "MAX_VERIFY_ALL", 51)
    monkeypatch.setattr(module, "MAX_HASHED_IMAGES", 51)
    found = opened(root)[1]
    assert set(found.skipped) == {"exact", "near"} and not found.hashes
    assert all("52 images are more than 51" in reason for reason in found.skipped.values())
    monkeypatch.setattr(module, "MAX_COMPARISONS", 24 * 28 - 1)
    assert "pairs of images" in opened(root, duplicates="warn")[1].skipped["near"]


def test_images_too_small_for_near_duplicates_are_logged() -> None:
    config = DataConfig(workers=0, duplicates="warn")
    found = find_duplicates(open_splits(config, labeled=True), config)
    assert "smaller than 16 pixels" in found.skipped["near"] and counts(found)["train/test"] == (0, 0)


def test_corrupt_images_are_no_duplicates(root: Path) -> None:
    for name in ("train/cat/05.png", "train/cat/06.png"):
        (root / name).write_bytes((root / name).read_bytes()[:-30])
    assert counts(opened(root, duplicates="warn", on_corrupt="skip", max_corrupt=0.5)[1]) == ALL


def test_drop_is_refused_for_reidentification() -> None:
    with pytest.raises(UserError, match="data.duplicates is 'drop'.*re-identification"):
        open_splits(DataConfig(source="digits_identities", duplicates="drop", workers=0), labeled=True)


def test_drop_excludes_images_without_a_label_too(root: Path) -> None:
    (root / "unlabeled").mkdir()
    for number, name in enumerate(("test/cat/05.png", "train/dog/03.png")):
        (root / "unlabeled" / f"{number}.png").write_bytes((root / name).read_bytes())
    supervised, _ = opened(root, duplicates="drop")
    unsupervised, found = opened(root, labeled=False, duplicates="drop")
    assert unsupervised.subset.num_unlabeled == 1 and unsupervised.subset.hash == supervised.subset.hash
    assert unsupervised.train.name(len(unsupervised.train) - 1).endswith("unlabeled/1.png")
    assert len(unsupervised.train) == len(supervised.train) + 1 and found.summary()["dropped"] == 4
