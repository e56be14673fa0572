"""Tests of data for re-identification: Market-1501's and MSMT17's layouts, the embedded set, hold-outs, mistakes."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from common.config import build
from common.data.config import DataConfig
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


def opened(source: Path | str, **keys: object) -> IdentitySplits:
    settings = {"source": str(source), "validation_fraction": 0.0, "workers": 0, **keys}
    splits = open_splits(build(DataConfig, settings, source="recipe"), labelled=True)
    assert isinstance(splits, IdentitySplits)
    return splits


@pytest.mark.parametrize("layout", ["market1501", "none"])
def test_market1501_gives_identities_and_cameras_without_junk(tmp_path, layout):
    splits = opened(market(tmp_path), layout=layout)
    assert splits.class_names == ("0002", "0007")
    assert [(splits.train.file_name(i), int(splits.train.labels[i])) for i in (0, 3)] == [
        ("bounding_box_train/0002_c1s1_000451_03.jpg", 0), ("bounding_box_train/0007_c3s2_000111_01.jpg", 1),
    ]  # fmt: skip
    query, gallery = splits.searches["test"]
    assert (query.identities.tolist(), query.cameras.tolist()) == ([3], [1])
    assert sorted(zip(gallery.identities.tolist(), gallery.cameras.tolist(), strict=True)) == [(0, 2), (3, 1), (3, 4)]


@pytest.mark.parametrize("folders", [("train", "test"), ("mask_train_v2", "mask_test_v2")])
def test_msmt17_reads_its_lists_and_trains_on_both(tmp_path, folders):
    splits = opened(msmt(tmp_path, folders))
    assert splits.train.labels.tolist() == [0, 0, 1, 1] and splits.class_names == ("0000", "0001")
    query, gallery = splits.searches["test"]
    assert (query.identities.tolist(), query.cameras.tolist()) == ([0], [5])
    assert (gallery.identities.tolist(), gallery.cameras.tolist()) == ([0, 1], [6, 5])
    assert gallery.split.file_name(0) == f"{folders[1]}/0000/0000_001_06_0303noon_0008_0.jpg"


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (market, {"query": []}, "no query images"),
        (market, {"bounding_box_train": ["0002_c1s1.jpg", "me.jpg"]}, "1 images in .*bounding_box_train .*'me.jpg'"),
        (market, {"bounding_box_train": ["0002_c1_1.jpg", "0002_c2_1.jpg", "0004_c1_2.jpg"]}, "single image.*0004_c1_2.jpg"),
        (market, {"bounding_box_train": ["0002_c1_1.jpg", "0002_c2_1.jpg"]}, "single identity"),
        (market, {"query": ["-1_c1_000.jpg"]}, "query holds 1 images of identity -1.*'query/-1_c1_000.jpg'"),
        (market, {"query": ["0003_c4_000.jpg"], "bounding_box_test": ["0003_c4_001.jpg"]}, "cannot be found.*another camera"),
        (market, {"query": ["0002_c1_000.jpg"], "bounding_box_test": ["0002_c4_1.jpg"]}, "trained on and searched for.*0002_c1s1"),
        (msmt, {"list_gallery.txt": ["0000/0000_000.jpg 0"]}, "line 1 of .*list_gallery.txt is '0000/0000_000.jpg 0'"),
        (msmt, {"list_query.txt": ["0000/0000_000_05_x.jpg zero"]}, "list_query.txt"),
        (msmt, {"list_query.txt": []}, "no query images"),
    ],
)  # fmt: skip
def test_mistakes_in_a_set_name_the_file(tmp_path, make, changes, words):
    with pytest.raises(UserError, match=words):
        opened(make(tmp_path, **changes))


def test_missing_folders_lists_and_files_are_named(tmp_path):
    (market(tmp_path / "market") / "query" / "0003_c1s1_000010_00.jpg").unlink()
    (tmp_path / "market" / "query").rmdir()
    with pytest.raises(UserError, match="lacks 'query' of the layout of Market-1501"):
        opened(tmp_path / "market")
    with pytest.raises(UserError, match="lacks 'list_train.txt'.*train or mask_train_v2"):
        opened(tmp_path / "market", layout="msmt17")
    root = msmt(tmp_path / "msmt")
    (root / "train" / "0000" / "0000_001_14_0303morning_0009_0.jpg").unlink()
    with pytest.raises(UserError, match="1 of the 2 images of .*list_train.txt are not there.*0000_001_14"):
        opened(root)


@pytest.mark.parametrize(
    "keys",
    [{"test_split": "query"}, {"label_column": "who"}, {"train_split": "bounding_box_train"}, {"revision": "main"}],
)
def test_keys_that_mean_nothing_here_are_refused(tmp_path, keys):
    with pytest.raises(UserError, match=f"data.{next(iter(keys))}"):
        opened(market(tmp_path), **keys)


def test_a_layout_lies_in_a_folder():
    with pytest.raises(UserError, match="data.source 'digits'.*data.layout 'market1501'"):
        opened("digits", layout="market1501")
    with pytest.raises(UserError, match="data.layout"):
        opened("digits_identities", layout="market1501")


def test_the_embedded_set_is_the_same_when_written_as_market1501_and_read_back(tmp_path):
    embedded = read_digit_identities()
    folders = zip(MARKET, (embedded.train, *embedded.test), strict=True)
    for folder, part in folders:
        for index in range(0, len(part)):
            name = f"{part.identities[index]:04d}_c{part.cameras[index]}s1_{index:06d}_00.jpg"
            pixels = part.split.image(index).permute(1, 2, 0).numpy()[:, :, ::-1]
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 100])
    read = open_identities(DataConfig(source=str(tmp_path)))
    assert read is not None
    for mine, theirs in zip((read.train, *read.test), (embedded.train, *embedded.test), strict=True):
        order = [int(Path(mine.split.file_name(index)).stem.split("_")[2]) for index in range(len(mine))]
        assert mine.identities.tolist() == theirs.identities[order].tolist()
        assert mine.cameras.tolist() == theirs.cameras[order].tolist()
        difference = mine.split.image(5).int() - theirs.split.image(order[5]).int()
        assert difference.abs().float().mean() < 6


def test_the_embedded_set_tests_identities_it_does_not_train_on():
    splits = opened("digits_identities")
    query, gallery = splits.searches["test"]
    assert len(splits.class_names) == 90 and np.bincount(splits.train.labels).min() >= 11
    assert len(np.unique(query.identities)) == 30 and query.identities.min() > 90 and 0 in gallery.identities
    assert splits.searches["test"].answerable().all()
    assert splits.train.image(0).shape == (3, 24, 12)


def test_held_out_identities_are_searched_for_and_do_not_train():
    splits = opened("digits_identities", validation_fraction=0.2, fraction=0.5)
    query, gallery = splits.searches["validation"]
    held = set(query.identities.tolist())
    assert len(held) == 18 and set(gallery.identities.tolist()) == held
    assert not held & {int(name) for name in splits.class_names} and len(splits.class_names) == 72
    pairs = list(zip(query.identities.tolist(), query.cameras.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    whole = opened("digits_identities", validation_fraction=0.2)
    assert set(splits.subset.indices) < set(whole.subset.indices)


def test_too_large_a_hold_out_and_one_beside_a_list_are_refused(tmp_path):
    with pytest.raises(UserError, match="validation_fraction 0.99 leaves 1 of the 90"):
        opened("digits_identities", validation_fraction=0.99)
    with pytest.raises(UserError, match="subset_file.*validation_fraction to 0"):
        opened("digits_identities", validation_fraction=0.1, subset_file=str(tmp_path / "list.txt"))
