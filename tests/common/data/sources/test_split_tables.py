"""Tables of several splits and configurations, with columns of their own."""

import io
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.splits.roles import Splits
from common.errors import UserError


def write(path: Path, count: int, **columns: list) -> None:
    """Write a table of small images and other columns."""
    images = []
    for number in range(count):
        buffer = io.BytesIO()
        Image.new("RGB", (4, 4), (number, len(path.name), 0)).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"image": images, **columns}), path)


def opened(root: Path, **keys: object) -> Splits:
    """Return the splits, which both stages read alike."""
    stages = [
        open_splits(DataConfig(source=str(root), workers=0, **keys), labeled=labeled) for labeled in (True, False)
    ]
    for part in ("train", "validation", "test"):
        assert getattr(stages[0], part).image_ids() == getattr(stages[1], part).image_ids()
    return stages[0]


LABELS = [number % 2 for number in range(40)]


@pytest.mark.parametrize("cache_megabytes", [0, 1024], ids=["unpacked", "in memory"])
def test_a_test_split_without_labels_may_have_other_columns(
    tmp_path: Path, cache_megabytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    write(tmp_path / "set" / "train.parquet", 40, label=LABELS)
    write(tmp_path / "set" / "test.parquet", 8, id=list(range(8)))
    assert len(opened(tmp_path / "set", cache_megabytes=cache_megabytes).test) == 8, "held out, 20% of 40"


def test_files_of_one_split_with_other_columns_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train-0.parquet", 4, label=LABELS[:4])
    write(tmp_path / "train-1.parquet", 4, kind=LABELS[:4])
    with pytest.raises(UserError, match=r"train-0\.parquet.*train-1\.parquet.*'train'.*'kind', 'label'"):
        opened(tmp_path)


def test_two_columns_of_one_name_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", 4, label=LABELS[:4])
    table = pyarrow.parquet.read_table(tmp_path / "train.parquet")
    pyarrow.parquet.write_table(table.append_column("label", table.column("label")), tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet has two columns called 'label'"):
        opened(tmp_path)


def test_configurations_in_folders_of_their_own_are_a_question_whose_answers_work(tmp_path: Path) -> None:
    for name in ("full", "small"):
        for split, count in (("train", 40), ("test", 8)):
            write(tmp_path / name / f"{split}-00000-of-00001.parquet", count, label=LABELS[:count])
    with pytest.raises(UserError, match=r"full and .*small both have the file .*/\*/\*\.parquet") as error:
        opened(tmp_path)
    assert len(opened(tmp_path / "full").test) == 8
    assert len(opened(Path(str(error.value).split("'")[-2])).test) == 16


def test_parts_beside_the_usual_splits_are_splits_of_their_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for split, count in (("train", 40), ("train_extra", 20), ("test", 8), ("test_unlabeled", 10)):
        write(tmp_path / f"{split}.parquet", count, label=[-1] * count if "un" in split else LABELS[:count])
    splits = opened(tmp_path)
    assert len(splits.train) == 36 and len(splits.test) == 8
    assert "the splits 'test_unlabeled', 'train_extra' of" in caplog.text


@pytest.mark.parametrize(
    "values", [[[0], [1]], [0.5, 1.5], [{"id": 0}, {"id": 1}]], ids=["lists", "fractions", "structs"]
)
def test_no_other_column_replaces_a_label_column_that_cannot_be_read(
    tmp_path: Path, values: list, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "train.parquet", 40, label=values * 20, fold=LABELS)
    config = DataConfig(source=str(tmp_path), workers=0)
    with pytest.raises(UserError, match=r"'label' of .* holds no class labels.*data\.label_column.*'fold'"):
        open_splits(config, labeled=True)
    assert open_splits(config, labeled=False).train.labels is None
    assert "'label'" in caplog.text and "data.label_column" in caplog.text
    assert opened(tmp_path, label_column="fold").class_names == ("0", "1")


def test_classes_that_differ_in_case_or_spaces_are_a_warning_within_and_an_error_between_splits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "a" / "train.parquet", 40, label=["Cat", "cat ", "dog", "bird"] * 10)
    assert (
        len(opened(tmp_path / "a").class_names) == 4 and "differ only in case or spaces: 'Cat', 'cat '" in caplog.text
    )
    write(tmp_path / "b" / "train.parquet", 40, label=["Cat", "Dog"] * 20)
    write(tmp_path / "b" / "test.parquet", 8, label=["cat", "Dog "] * 4)
    with pytest.raises(UserError, match="'Dog ' is 'Dog' in training; 'cat' is 'Cat' in training"):
        opened(tmp_path / "b")


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match=r"train\.parquet.*pointer of Git LFS\. Run `git lfs pull`"):
        opened(tmp_path)


@pytest.mark.parametrize(
    "values", [["a.png"] * 4, [[0] * 3] * 4, np.zeros(4).tolist()], ids=["paths", "arrays", "numbers"]
)
def test_columns_that_hold_no_image_files_name_the_remedies(tmp_path: Path, values: list) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"image": values, "label": [0, 1, 0, 1]}), tmp_path / "train.parquet")
    for keys in ({}, {"image_column": "image"}):
        with pytest.raises(UserError, match=r"data\.image_column.*bytes.*data\.metadata_file"):
            opened(tmp_path, **keys)


def test_a_column_of_splits_is_no_label_and_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "train.parquet", 40, species=["a", "b"] * 20, split=["train", "train", "val", "test"] * 10)
    assert opened(tmp_path).class_names == ("a", "b")
    assert "'split' of" in caplog.text and "is not read" in caplog.text


def test_classes_called_train_and_test_in_another_column_stay_classes(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", 40, label=["train", "bus"] * 20, set=["x", "y"] * 20)
    assert opened(tmp_path).class_names == ("bus", "train")
