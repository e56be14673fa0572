"""Re-identification data: Market-1501 and MSMT17 layouts, the bundled dataset, hold-outs, invalid datasets."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from common.config import build
from common.data.config import DataConfig
from common.data.images.decode import ImageDecoder
from common.data.open_splits import open_splits
from common.data.reid.digit_identities import read_digit_identities
from common.data.reid.identities import IdentitySplits
from common.data.reid.open_identities import open_identities
from common.errors import UserError

MARKET = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0002_c2s1_000001_01.jpg", "0007_c3s2_000111_01.jpg", "0007_c1s1_01.jpg"],
    "query": ["0003_c1s1_000010_00.jpg"],
    "bounding_box_test": ["-1_c1s1_000401_03.jpg", "0000_c2s1_000020_01.jpg", "0003_c1s1_000011_00.jpg", "0003_c4s1_000012_00.jpg"],
}  # fmt: skip
MSMT = {
    "list_train.txt": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0000/0000_001_14_0303morning_0009_0.jpg 0"],
    "list_val.txt": ["0001/0001_000_02_0303noon_0008_0.jpg 1", "0001/0001_001_03_0303noon_0008_0.jpg 1"],
    "list_query.txt": ["0000/0000_000_05_0303noon_0008_0.jpg 0"],
    "list_gallery.txt": ["0000/0000_001_06_0303noon_0008_0.jpg 0", "0001/0001_000_05_0303noon_0008_0.jpg 1"],
}


def picture(path: Path, pixels=None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((16, 8, 3), 99, np.uint8) if pixels is None else pixels)


def market(root: Path, **changes: list[str]) -> Path:
    for folder, names in {**MARKET, **changes}.items():
        (root / folder).mkdir(parents=True)
        for name in names:
            picture(root / folder / name)
    (root / "bounding_box_test" / "Thumbs.db").write_bytes(b"")
    return root


def msmt(root: Path, folders=("train", "test"), **changes: list[str]) -> Path:
    for name, lines in {**MSMT, **changes}.items():
        for line in lines:
            picture(root / folders[name in ("list_query.txt", "list_gallery.txt")] / line.split()[0])
        (root / name).write_text("".join(f"{line}\n" for line in lines))
    return root


def open_reid(source: Path | str, **keys: object) -> IdentitySplits:
    settings = {"source": str(source), "validation_fraction": 0.0, "workers": 0, **keys}
    splits = open_splits(build(DataConfig, settings, source="recipe"), labeled=True)
    assert isinstance(splits, IdentitySplits)
    return splits


@pytest.mark.parametrize("layout", ["market1501", "none"])
def test_market1501_has_identities_and_cameras_without_junk(tmp_path, layout):
    splits = open_reid(market(tmp_path), layout=layout)
    assert splits.class_names == ("0002", "0007")
    assert [(splits.train.file_names()[i], int(splits.train.labels[i])) for i in (0, 3)] == [
        ("bounding_box_train/0002_c1s1_000451_03.jpg", 0), ("bounding_box_train/0007_c3s2_000111_01.jpg", 1),
    ]  # fmt: skip
    query, gallery = splits.query_gallery["test"]
    assert (query.identities.tolist(), query.cameras.tolist()) == ([3], [1])
    assert sorted(zip(gallery.identities.tolist(), gallery.cameras.tolist(), strict=True)) == [(0, 2), (3, 1), (3, 4)]


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_reads_its_lists_and_trains_on_train_and_val(tmp_path, folders):
    splits = open_reid(msmt(tmp_path, folders))
    assert splits.train.labels.tolist() == [0, 0, 1, 1] and splits.class_names == ("0000", "0001")
    query, gallery = splits.query_gallery["test"]
    assert (query.identities.tolist(), query.cameras.tolist()) == ([0], [5])
    assert (gallery.identities.tolist(), gallery.cameras.tolist()) == ([0, 1], [6, 5])
    assert gallery.split.file_names()[0] == f"{folders[1]}/0000/0000_001_06_0303noon_0008_0.jpg"


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (market, {"query": []}, "no query images"),
        (market, {"bounding_box_train": ["0002_c1s1.jpg", "me.jpg"]}, "1 images in .*bounding_box_train .*'me.jpg'"),
        (market, {"bounding_box_train": ["0002_c1_1.jpg", "0002_c2_1.jpg", "0004_c1_2.jpg"]}, "single image.*0004_c1_2.jpg"),
        (market, {"bounding_box_train": ["0002_c1_1.jpg", "0002_c2_1.jpg"]}, "single identity"),
        (market, {"query": ["-1_c1_000.jpg"]}, "query has 1 images of identity -1.*'query/-1_c1_000.jpg'"),
        (market, {"query": ["0003_c4_000.jpg"], "bounding_box_test": ["0003_c4_001.jpg"]}, "has a match.*another camera"),
        (market, {"query": ["0002_c1_000.jpg"], "bounding_box_test": ["0002_c4_1.jpg"]}, "training and the query.*0002_c1s1"),
        (msmt, {"list_gallery.txt": ["0000/0000_000.jpg 0"]}, "line 1 of .*list_gallery.txt is '0000/0000_000.jpg 0'"),
        (msmt, {"list_query.txt": ["0000/0000_000_05_x.jpg zero"]}, "list_query.txt"),
        (msmt, {"list_query.txt": []}, "no query images"),
    ],
)  # fmt: skip
def test_errors_in_a_data_set_name_the_file(tmp_path, make, changes, words):
    with pytest.raises(UserError, match=words):
        open_reid(make(tmp_path, **changes))


def test_missing_folders_lists_and_files_are_reported(tmp_path):
    (market(tmp_path / "market") / "query" / "0003_c1s1_000010_00.jpg").unlink()
    (tmp_path / "market" / "query").rmdir()
    with pytest.raises(UserError, match="lacks 'query' of the Market-1501 layout"):
        open_reid(tmp_path / "market")
    with pytest.raises(UserError, match="lacks 'list_train.txt'.*train or mask_train_v2"):
        open_reid(tmp_path / "market", layout="msmt17")
    root = msmt(tmp_path / "msmt")
    (root / "train" / "0000" / "0000_001_14_0303morning_0009_0.jpg").unlink()
    with pytest.raises(UserError, match="1 of the 2 images of .*list_train.txt are missing.*0000_001_14"):
        open_reid(root)


@pytest.mark.parametrize(
    "keys",
    [{"test_split": "query"}, {"label_column": "who"}, {"train_split": "bounding_box_train"}, {"revision": "main"}],
)
def test_keys_that_do_not_apply_are_rejected(tmp_path, keys):
    with pytest.raises(UserError, match=f"data.{next(iter(keys))}"):
        open_reid(market(tmp_path), **keys)


def test_a_layout_requires_a_folder():
    with pytest.raises(UserError, match="data.source 'digits'.*data.layout 'market1501'"):
        open_reid("digits", layout="market1501")
    with pytest.raises(UserError, match="data.layout"):
        open_reid("digits_identities", layout="market1501")


def test_the_embedded_data_set_round_trips_through_the_market1501_layout(tmp_path):
    bundled = read_digit_identities(ImageDecoder())
    folders = zip(MARKET, (bundled.train, *bundled.test), strict=True)
    for folder, part in folders:
        for index in range(0, len(part)):
            name = f"{part.identities[index]:04d}_c{part.cameras[index]}s1_{index:06d}_00.jpg"
            pixels = part.split.image(index)[:, :, ::-1]
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])
    read = open_identities(DataConfig(source=str(tmp_path)), ImageDecoder())
    assert read is not None
    for actual, expected in zip((read.train, *read.test), (bundled.train, *bundled.test), strict=True):
        order = [int(Path(name).stem.split("_")[2]) for name in actual.split.file_names()]
        assert actual.identities.tolist() == expected.identities[order].tolist()
        assert actual.cameras.tolist() == expected.cameras[order].tolist()
        difference = actual.split.image(5).astype(int) - expected.split.image(order[5]).astype(int)
        assert np.abs(difference).mean() < 6


def test_query_identities_of_the_embedded_data_set_are_not_trained_on():
    splits = open_reid("digits_identities")
    query, gallery = splits.query_gallery["test"]
    assert len(splits.class_names) == 90 and np.bincount(splits.train.labels).min() >= 11
    assert len(np.unique(query.identities)) == 30 and query.identities.min() > 90 and 0 in gallery.identities
    assert splits.query_gallery["test"].has_match().all()
    assert splits.train.image(0).shape == (24, 12, 3)


def test_held_out_identities_are_queried_and_not_trained_on():
    splits = open_reid("digits_identities", validation_fraction=0.2, fraction=0.5)
    query, gallery = splits.query_gallery["validation"]
    held_out = set(query.identities.tolist())
    assert len(held_out) == 18 and set(gallery.identities.tolist()) == held_out
    assert not held_out & {int(name) for name in splits.class_names} and len(splits.class_names) == 72
    pairs = list(zip(query.identities.tolist(), query.cameras.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    full = open_reid("digits_identities", validation_fraction=0.2)
    assert set(splits.subset.indices) < set(full.subset.indices)


def test_a_hold_out_that_is_too_large_or_combined_with_a_subset_file_is_rejected(tmp_path):
    with pytest.raises(UserError, match="validation_fraction 0.99 leaves 1 of the 90"):
        open_reid("digits_identities", validation_fraction=0.99)
    with pytest.raises(UserError, match="subset_file.*validation_fraction to 0"):
        open_reid("digits_identities", validation_fraction=0.1, subset_file=str(tmp_path / "list.txt"))
