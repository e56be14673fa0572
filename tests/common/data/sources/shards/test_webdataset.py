"""Tar shards: images and labels by webdataset's rules, errors that name the shard and the member."""

import errno
import json
import logging
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import numpy as np
import pytest
from tar_shards import png, write_labeled, write_shard

from common.data.config import DataConfig, build_decoder
from common.data.open_splits import open_splits
from common.data.sources.open_source import open_source
from common.data.sources.shards.index_store import load_or_build
from common.data.sources.shards.places import LocalShard
from common.data.sources.source import Source
from common.errors import ProcessError, UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the indexes inside the folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def open_folder(folder: Path | str, **keys: object) -> Source:
    """Return the source of a folder, file or pattern."""
    config = DataConfig(source=str(folder), **keys)
    return open_source(config, build_decoder(config))


def test_splits_images_and_labels(tmp_path: Path) -> None:
    """Shards belong to splits by their names; images, labels and names are those that were written."""
    for shard in range(3):
        write_labeled(tmp_path / f"set-train-{shard:04d}.tar", range(10 * shard, 10 * shard + 10))
    write_labeled(tmp_path / "set-validation-0000.tar", range(40, 44))
    source = open_folder(tmp_path)
    assert source.names() == ("train", "validation")
    split = pickle.loads(pickle.dumps(source.read("train", labeled=True)))
    assert [split.image(index)[0, 0, 0] for index in range(30)] == [*range(30)]
    assert split.labels.tolist() == [number % 2 for number in range(30)] and split.class_names == ("0", "1")
    assert split.file_names()[:2] == ["image_0000.png", "image_0001.png"] == split.image_ids()[:2]
    assert split.name(10) == f"{tmp_path}/set-train-0001.tar member image_0010.png"
    assert len(source.read("validation", labeled=True)) == 4


def test_a_run_opens_them(tmp_path: Path) -> None:
    """Hold-outs and subsets are those of any labeled source."""
    write_labeled(tmp_path / "train.tar", range(40))
    for source in (tmp_path, tmp_path / "train.tar", tmp_path / "*.tar"):
        config = DataConfig(source=str(source), image_size=4, fraction=0.5)
        splits = open_splits(config, labeled=True)
        assert [len(splits.train), len(splits.validation), len(splits.test)] == [14, 4, 8]


def test_labels_of_json(tmp_path: Path) -> None:
    """The label is a usual key of .json, or the one that is asked for; names are sorted, numbers by their value."""
    names = ["tram", "bus", "tram"]
    records = [{"label": 10 - number, "kind": name, "width": 3} for number, name in enumerate(names)]
    pairs = enumerate(records)
    members = {
        f"{n}.{end}": data for n, r in pairs for end, data in (("PNG", png(n)), ("json", json.dumps(r).encode()))
    }
    write_shard(tmp_path / "train.tar", members)
    split = open_folder(tmp_path).read("train", labeled=True)
    assert split.class_names == ("8", "9", "10") and split.labels.tolist() == [2, 1, 0]
    split = open_folder(tmp_path, label_column="kind").read("train", labeled=True)
    assert split.class_names == ("bus", "tram") and split.labels.tolist() == [1, 0, 1]
    with pytest.raises(UserError, match="no labels in .cls or .json"):
        open_folder(tmp_path / "train.tar", label_column="color")


def test_images_without_labels(tmp_path: Path) -> None:
    """An archive of image folders is no shard; with data.kind=webdataset it is one whose images have no labels."""
    path = write_shard(tmp_path / "photos.tar", {f"photos/{n % 2}/{n}.png": png(n) for n in range(6)})
    with pytest.raises(UserError, match="Extract an archive of image folders"):
        open_folder(path)
    source = open_folder(path, kind="webdataset")
    assert source.read("train", labeled=False).labels is None
    with pytest.raises(UserError, match="no image of the split 'train' .* has a label in .cls or .json"):
        source.read("train", labeled=True)


def test_a_missing_label_is_named(tmp_path: Path) -> None:
    """Where labels are needed, the first image without one is named."""
    write_shard(
        tmp_path / "train.tar", {"a.png": png(0), "a.cls": b"1", "b.png": png(1), "c.png": png(1), "c.cls": b" "}
    )
    with pytest.raises(UserError, match=r"2 of 3 images .* no label .*train.tar member b.png"):
        open_folder(tmp_path).read("train", labeled=True)


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    """So is one in a shard that has become shorter since its index was built."""
    write_shard(tmp_path / "train.tar", {"a.png": png(0)[:40], "a.cls": b"0", "b.png": png(1), "b.cls": b"1"})
    split = open_folder(tmp_path).read("train", labeled=True)
    with pytest.raises(UserError, match="train.tar member a.png"):
        split.image(0)
    (tmp_path / "train.tar").write_bytes(b"")
    with pytest.raises(UserError, match="train.tar member b.png: the shard ends before the image does"):
        split.image(1)


def test_a_failure_of_the_storage_is_not_one_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = open_folder(write_labeled(tmp_path / "train.tar", range(2))).read("train", labeled=True)

    def fail(*_: object) -> bytes:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(ProcessError, match="Stale file handle.*no fault of the image"):
        split.image(0)


def test_the_index_is_built_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The next run maps it, from another folder with the same files, too; a shard that has changed is read again."""
    path = write_labeled(tmp_path / "one" / "train.tar", range(8))
    with caplog.at_level(logging.INFO):
        open_folder(tmp_path / "one").read("train", labeled=True)
        assert "is built once" in caplog.text
        caplog.clear()
        (tmp_path / "one").rename(tmp_path / "two")
        split = open_folder(tmp_path / "two").read("train", labeled=True)
        assert "is built once" not in caplog.text and isinstance(split.images._index.offsets, np.memmap)
        write_labeled(tmp_path / "two" / path.name, range(10))
        assert len(open_folder(tmp_path / "two").read("train", labeled=True)) == 10
        assert "is built once" in caplog.text


def test_processes_wait_for_the_one_that_builds(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of several that start at the same time, one reads the headers."""
    path = write_labeled(tmp_path / "train.tar", range(8))
    shards = [LocalShard(path, tmp_path)]
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: load_or_build(shards, label_column=None, title="the shards"), range(4)))
    assert caplog.text.count("is built once") == 1 and {len(index) for index, _ in found} == {8}
    [folder] = {folder for _, folder in found}
    assert sorted(path.name for path in folder.parent.iterdir()) == [folder.name, f"{folder.name}.lock"]


def test_images_beside_a_tar_file_are_the_source(tmp_path: Path) -> None:
    """A tar file beside class folders is passed over."""
    write_labeled(tmp_path / "old.tar", range(4))
    for name in ("bus", "tram"):
        (tmp_path / name).mkdir()
        for number in range(2):
            (tmp_path / name / f"{number}.png").write_bytes(png(number))
    assert open_folder(tmp_path).read("train", labeled=True).class_names == ("bus", "tram")


def test_a_shard_that_disappears_is_named_without_advice_about_servers(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone.tar") as raised:
        load_or_build([LocalShard(tmp_path / "gone.tar", tmp_path)], label_column=None, title="the shards")
    assert "server" not in str(raised.value)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the folder and the variables that set another."""
    write_labeled(tmp_path / "train.tar", range(4))

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("common.data.sources.shards.index.ShardIndex.save", refuse)
    with pytest.raises(UserError, match=r"the index of .*No space left.*HF_DATASETS_CACHE"):
        open_folder(tmp_path).read("train", labeled=True)
    assert [path.suffix for path in (tmp_path / "cache" / "two_stage_vit_indexes").iterdir()] == [".lock"]


@pytest.mark.parametrize("text", ["5", "null", "[1]", '"cat"'])
def test_json_that_is_no_object_is_named(tmp_path: Path, text: str) -> None:
    write_shard(tmp_path / "train-0.tar", {"a.png": png(1), "a.json": text.encode()})
    with pytest.raises(UserError, match=r"a.json in .* not an object with keys. Write labels to .cls"):
        open_splits(DataConfig(source=str(tmp_path), kind="webdataset"), labeled=True)


@pytest.mark.parametrize("names", [("a.png", "b.png", "a.cls", "b.cls"), ("a.cls", "b.cls", "a.png", "b.png")])
def test_labels_apart_from_their_images_are_an_error(tmp_path: Path, names: tuple[str, ...]) -> None:
    """`tar` without `--sort=name` takes files in the order of the folder."""
    write_shard(tmp_path / "train.tar", {name: png(1) if name.endswith("png") else b"0" for name in names})
    with pytest.raises(UserError, match=r"train\.tar the label of the sample a is not beside its image.*--sort=name"):
        open_folder(tmp_path, kind="webdataset").read("train", labeled=False)


def test_names_with_dots_are_explained(tmp_path: Path) -> None:
    write_shard(tmp_path / "train.tar", {"22.05.png": png(1), "22.06.png": png(2)})
    with pytest.raises(UserError, match=r"sample 22 of .* several images: .*ends at the first dot of its file's name"):
        open_folder(tmp_path, kind="webdataset").read("train", labeled=False)
