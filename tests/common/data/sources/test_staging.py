"""Copies of shards on the node: made once, of what is read, with the same images; a full disk is an error before the first byte."""

import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
from tar_shards import png, write_labeled

from common import files
from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.sources import staging
from common.data.sources.staging import stage_files
from common.data.splits.fingerprint import describe_data
from common.errors import UserError
from common.training.run_folder import changes_numbers


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep caches and indexes inside the folder of the test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def tars(tmp_path: Path) -> Path:
    """Return a folder of tar shards, one of them of a split that no run reads."""
    for shard in range(2):
        write_labeled(tmp_path / "tars" / f"train-{shard}.tar", range(20 * shard, 20 * shard + 20))
    write_labeled(tmp_path / "tars" / "extra-0.tar", range(5))
    return tmp_path / "tars"


@pytest.fixture
def arrows(tmp_path: Path) -> Path:
    """Return a folder of arrow files."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    for shard in range(2):
        numbers = range(20 * shard, 20 * shard + 20)
        rows = {"image": [{"bytes": png(n), "path": f"{n}.png"} for n in numbers], "label": [n % 2 for n in numbers]}
        datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "saved" / str(shard))
        (tmp_path / "arrows").mkdir(exist_ok=True)
        [written] = (tmp_path / "saved" / str(shard)).glob("*.arrow")
        written.rename(tmp_path / "arrows" / f"train-{shard}.arrow")
    return tmp_path / "arrows"


@pytest.mark.parametrize("kind", ["tars", "arrows"])
def test_the_images_are_the_same(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Splits, names and pixels do not depend on the key; what is read are the copies."""
    folder = request.getfixturevalue(kind)
    plain = open_splits(DataConfig(source=str(folder), cache_megabytes=0), labeled=True)
    config = DataConfig(source=str(folder), stage_to=str(tmp_path / "node"), cache_megabytes=0)
    staged = open_splits(config, labeled=True)
    assert describe_data(staged) == describe_data(plain)
    assert [staged.train.name(n) for n in range(28)] == [plain.train.name(n) for n in range(28)]
    shutil.rmtree(folder)
    assert [staged.train.image(n)[0, 0, 0] for n in range(28)]
    copies = sorted(path.name for path in (tmp_path / "node").rglob("train-*"))
    assert copies == [f"train-{n}.{'tar' if kind == 'tars' else 'arrow'}" for n in range(2)]
    assert not list((tmp_path / "node").rglob("extra*")) and not changes_numbers("data.stage_to", "anything")


def test_a_copy_is_made_once(tars: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Complete copies are kept, what is missing, cut off or changed since is copied; leftovers are removed."""
    files = sorted(tars.glob("train*"))
    with caplog.at_level(logging.INFO):
        first, second = stage_files(files, tars, tmp_path / "node", title="the shards")
        inodes = [path.stat().st_ino for path in (first, second)]
        caplog.clear()
        stage_files(files, tars, tmp_path / "node", title="the shards")
        assert not caplog.records and [path.stat().st_ino for path in (first, second)] == inodes
        second.write_bytes(second.read_bytes()[:100])
        (second.parent / ".train-7.tar.writing").write_bytes(b"part")
        stage_files(files, tars, tmp_path / "node", title="the shards")
        assert "1 shards are copied" in caplog.text and first.stat().st_ino == inodes[0]
        assert second.read_bytes() == files[1].read_bytes() and not list(second.parent.glob(".*writing"))
        os.utime(files[0], (1, 1))
        stage_files(files, tars, tmp_path / "node", title="the shards")
        assert first.stat().st_mtime == 1


def test_a_copy_is_flushed_to_the_disk_before_it_has_its_name(
    tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power failure a copy of the right size and time would otherwise hold zeros."""
    flushed = list[str]()

    def fsync(path: Path) -> None:
        flushed.append(path.name)
        assert path.is_dir() or not (path.parent / path.name.strip(".").removesuffix(".writing")).exists()

    monkeypatch.setattr(files, "fsync", fsync)
    stage_files([tars / "train-0.tar"], tars, tmp_path / "node", title="the shards")
    [copy] = (tmp_path / "node").rglob("*.tar")
    assert flushed == [".train-0.tar.writing", copy.parent.name]


def test_tables_that_are_unpacked_are_not_copied_as_well(arrows: Path, tmp_path: Path) -> None:
    """Arrow files of one split whose features differ cannot be mapped as one table: they are unpacked on the node instead."""
    plain = open_splits(DataConfig(source=str(arrows), cache_megabytes=0), labeled=True)
    rows = datasets.Dataset.from_file(str(arrows / "train-1.arrow")).with_format("arrow")[:]
    other = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    datasets.Dataset(datasets.table.table_cast(rows, other.arrow_schema)).save_to_disk(tmp_path / "other")
    [written] = (tmp_path / "other").glob("*.arrow")
    written.replace(arrows / "train-1.arrow")
    config = DataConfig(source=str(arrows), stage_to=str(tmp_path / "node"), cache_megabytes=0)
    staged = open_splits(config, labeled=True)
    assert [staged.train.image(n)[0, 0, 0] for n in range(28)] == [plain.train.image(n)[0, 0, 0] for n in range(28)]
    assert list((tmp_path / "node").rglob("*.arrow")) and not list((tmp_path / "node").rglob("train-*.arrow"))


def test_a_full_disk_is_named_before_anything_is_copied(
    tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the room that is needed and the room that there is."""
    monkeypatch.setattr(staging.shutil, "disk_usage", lambda _: SimpleNamespace(free=10_000))
    with pytest.raises(UserError, match=r"data.stage_to = .*node.* needs 0\.00 GB for 2 shards, .* nothing was copied"):
        open_splits(DataConfig(source=str(tars), stage_to=str(tmp_path / "node")), labeled=True)
    assert not list((tmp_path / "node").rglob("*.tar"))


def test_a_disk_that_fills_up_is_named(tars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that fills up while shards are copied; complete copies stay, no part does."""

    def fill(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(staging.shutil, "copyfile", fill)
    with pytest.raises(UserError, match=r"data.stage_to = .* cannot be written \(.*No space left.* remove the key"):
        stage_files(sorted(tars.glob("*")), tars, tmp_path / "node", title="the shards")
    assert not list((tmp_path / "node").rglob("*train*"))


def test_what_has_no_shards_is_refused(tmp_path: Path) -> None:
    """A folder of images is not copied."""
    for name in ("bus", "tram"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").write_bytes(png(1))
    with pytest.raises(UserError, match=r"data.stage_to is '/node', but .* a folder of image files; only tar shards"):
        open_splits(DataConfig(source=str(tmp_path / "photos"), stage_to="/node"), labeled=True)
