"""Shards on a server: the same images as from a folder, requests that are sent again, errors that name the address."""

import http.server
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import torch
from conftest import assert_same_run, problems_of
from tar_shards import write_labeled

from common.data.augment.multi_crop import Views
from common.data.config import DataConfig
from common.data.images import ImageArray
from common.data.loading.corrupt import read_images
from common.data.loading.loader import build_evaluation_loader
from common.data.loading.sampler import EpochSampler
from common.data.loading.shard_order import build_shard_order
from common.data.open_splits import open_splits
from common.data.sources.file_lock import hold_lock
from common.data.sources.shards import connections, fetching, places
from common.data.sources.shards.addresses import expand_braces, shown_address
from common.data.sources.shards.fetching import FetchedShard
from common.data.sources.shards.shard_cache import ShardCache
from common.data.sources.split import Split
from common.data.splits.channel_statistics import measure_channels
from common.data.splits.duplicates import find_duplicates
from common.data.splits.fingerprint import describe_data
from common.data.splits.thumbnails import thumbnails
from common.data.splits.verification import verify_and_cache
from common.errors import ProcessError, UserError
from common.evaluation.inference import predict, sample_images
from common.rng import SampleKey
from common.training.tracker import _plain


class Handler(http.server.BaseHTTPRequestHandler):
    """Serve ranges of files; fail as often as `failures` says, close connections without a word if `drops`.

    The first `lost` connections answer nothing.
    """

    protocol_version = "HTTP/1.1"  # connections stay open
    disable_nagle_algorithm = True  # as servers do: head and content are two packets
    folder: Path
    failures = 0
    retry_after = ""
    requests = 0
    connections = 0
    ranges = True
    drops = False
    lost = 0

    def setup(self) -> None:
        """Count a connection."""
        type(self).connections += 1
        self.number = type(self).connections
        super().setup()

    def do_GET(self) -> None:
        """Answer a request for a range."""
        kind = type(self)
        kind.requests += 1
        if self.number <= kind.lost:
            return  # no answer; the connection stays open
        path = self.folder / self.path.partition("?")[0].lstrip("/")
        if kind.failures and kind.retry_after:
            kind.failures -= 1
            self.send_response(429)
            self.send_header("Retry-After", kind.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif kind.failures:
            kind.failures -= 1
            self.send_error(503)
        elif not path.is_file():
            self.send_error(404)
        else:
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"]).groups())
            data = path.read_bytes()
            part = data[first : last + 1]
            self.send_response(206 if self.ranges else 200)
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            self.wfile.write(part)
            self.close_connection |= kind.drops

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[type[Handler], str]]:
    """Yield the handler of a server of three shards, and its address."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(places, "_FIRST_WAIT_SECONDS", 0.001)
    for shard in range(2):
        write_labeled(tmp_path / "set" / f"a-train-{shard:02d}.tar", range(20 * shard, 20 * shard + 20))
    write_labeled(tmp_path / "set" / "a-validation-00.tar", range(40, 46))
    kind = type("Kind", (Handler,), {"folder": tmp_path})
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    yield kind, f"http://127.0.0.1:{served.server_address[1]}"
    served.shutdown()
    thread.join()
    served.server_close()


SHARDS = "/set/a-{train-{00..01},validation-00}.tar"


def test_images_are_those_of_the_folder(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    """Splits, labels, ids and pixels are equal; the index is built once."""
    kind, address = server
    local = open_splits(DataConfig(source=str(tmp_path / "set"), cache_megabytes=0), labeled=True)
    remote = open_splits(DataConfig(source=address + SHARDS, cache_megabytes=0), labeled=True)
    assert describe_data(remote) == describe_data(local)
    assert remote.train.image_ids() == local.train.image_ids()
    assert (remote.train.image(3) == local.train.image(3)).all() and len(remote.validation) == 6
    assert remote.train.name(0).startswith(f"{address}/set/a-train-00.tar member image_")
    kind.requests = 0
    open_splits(DataConfig(source=address + SHARDS, verify="none", cache_megabytes=0), labeled=True, decodes=False)
    assert kind.requests < 60  # states of the shards and contents for the fingerprint, no headers


def test_a_request_is_sent_again(server: tuple[type[Handler], str]) -> None:
    """A server that is busy for a while changes nothing; one that stays so is an error that names the image."""
    kind, address = server
    splits = open_splits(DataConfig(source=address + SHARDS, cache_megabytes=0), labeled=True)
    expected = splits.train.image(0)
    kind.failures = 3
    assert (splits.train.image(0) == expected).all() and kind.failures == 0
    kind.failures = 100
    with pytest.raises(UserError, match=r"a-train-00.tar member image_\d+.png: cannot be read .*503"):
        splits.train.image(0)


@pytest.mark.parametrize(("asked", "waited"), [("30", 30.0), ("86400", 300.0), ("0", 0.001), ("soon", 0.001)])
def test_a_server_that_limits_requests_is_waited_for_as_it_asks(
    server: tuple[type[Handler], str], monkeypatch: pytest.MonkeyPatch, asked: str, waited: float
) -> None:
    kind, address = server
    shard = places.RemoteShard(f"{address}/set/a-train-00.tar", "a-train-00.tar")
    waits = list[float]()
    monkeypatch.setattr(places, "_FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(places.time, "sleep", waits.append)
    kind.failures, kind.retry_after = 1, asked
    assert int(shard.state().partition(" ")[0]) > 0
    assert waits == [waited]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/set/a-train-{00..07}.tar", r"a-train-0\d.tar: HTTP Error 404"),
        ("/set", "is not the address of a .tar file"),
        ("/set/a-train-{05..01}.tar", r"\{05..01\} is empty"),
    ],
)
def test_wrong_addresses_are_named(server: tuple[type[Handler], str], source: str, words: str) -> None:
    """A missing shard, an address of something else, a range that is empty."""
    with pytest.raises(UserError, match=words):
        open_splits(DataConfig(source=server[1] + source), labeled=True)


def test_a_server_without_ranges_is_named(server: tuple[type[Handler], str]) -> None:
    """The images could only be read by downloading whole shards."""
    server[0].ranges = False
    with pytest.raises(UserError, match="does not send ranges"):
        open_splits(DataConfig(source=server[1] + SHARDS), labeled=True)


def test_signatures_of_addresses_are_not_shown(
    server: tuple[type[Handler], str], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A presigned address is a key to the files: names of images, logs and errors have no query."""
    caplog.set_level(logging.DEBUG)
    signed = server[1] + "/set/a-{train-{00..01},validation-00}.tar?X-Amz-Signature=0f3a5c"
    splits = open_splits(DataConfig(source=signed, cache_megabytes=0), labeled=True)
    assert splits.train.name(0).startswith(f"{server[1]}/set/a-train-00.tar?... member image_")
    server[0].ranges = False
    with pytest.raises(UserError, match=r"a-train-00\.tar\?\.\.\.: the server does not send ranges") as caught:
        open_splits(DataConfig(source=signed, cache_megabytes=0), labeled=True)
    assert "0f3a5c" not in f"{caught.value} {caplog.text} {capsys.readouterr()}"
    assert _plain(signed) == server[1] + "/set/a-{train-{00..01},validation-00}.tar?..."
    assert shown_address("https://me:word@host/train.tar") == "https://host/train.tar"


def test_braces() -> None:
    """Ranges keep their width, alternatives may be nested."""
    assert expand_braces("a-{x-{8..10},y}.tar") == ["a-x-10.tar", "a-x-8.tar", "a-x-9.tar", "a-y.tar"]
    assert expand_braces("{098..100}") == ["098", "099", "100"] and expand_braces("a") == ["a"]
    for text in ("{0..999}{0..999}", "{0..99999999999999999999}"):
        with pytest.raises(UserError, match="more than 100000 shards"):
            expand_braces(text)


def test_shards_are_copied_as_they_are_read(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    """After some images of a shard it is copied and read there; the pixels are the same, old copies make room for new ones."""
    kind, address = server
    plain = open_splits(DataConfig(source=address + SHARDS, cache_megabytes=0), labeled=True).train
    keys = {"stage_to": str(tmp_path / "node"), "stage_gigabytes": 1.2e-4}
    train = open_splits(
        DataConfig(source=address + SHARDS, cache_megabytes=0, verify="none", **keys), labeled=True
    ).train.copied_as_read()
    order = EpochSampler(len(train), 4, seed=0, shard_order=build_shard_order(1, DataConfig(**keys), train)).order(0)
    kind.requests = 0
    images = {int(index): train.image(int(index))[0, 0, 0] for index in order}
    assert images == {index: plain.image(index)[0, 0, 0] for index in images} and len(images) == len(plain)
    copies = sorted(path.name for path in (tmp_path / "node").rglob("a-train*.tar"))
    assert len(copies) == 2 and all(re.fullmatch(r"a-train-0\d-[0-9a-f]{8}\.tar", name) for name in copies)
    assert not list((tmp_path / "node").rglob("*.fetching"))
    os.utime(next((tmp_path / "node").rglob("a-train-00-*.tar")), (1, 1))  # read long ago
    cache = ShardCache(tmp_path / "node", 120_000)
    assert cache.reserve(tmp_path / "node" / "b-01234567.tar", 50_000) is not None
    assert [path.name for path in (tmp_path / "node").rglob("a-train*.tar")] == copies[1:]


def test_reading_without_a_loader_copies_nothing(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    """Verification, fingerprints and the search for duplicates read all images here, of every shard; a loader copies the shards."""
    config = DataConfig(
        source=server[1] + SHARDS, stage_to=str(tmp_path / "node"), cache_megabytes=0, verify="all", duplicates="warn"
    )
    splits = open_splits(config, labeled=True)
    find_duplicates(splits, config)
    describe_data(splits)
    assert len(splits.train) > 20 and not list((tmp_path / "node").rglob("*.tar"))
    images = [splits.train.image(index)[0, 0, 0] for index in range(len(splits.train))]
    assert read_by_loader(splits.train) == images
    assert {path.name[:10] for path in (tmp_path / "node").rglob("*.tar")} == {"a-train-00", "a-train-01"}


def read_by_loader(split: Split, *, workers: int = 0) -> list[int]:
    """Return the red value of the images of a split, as a data loader reads them."""
    reds = list[int]()

    def to_views(images: Sequence[ImageArray], _: Sequence[SampleKey]) -> Views:
        return Views([torch.tensor([[[[int(image[0, 0, 0])]]] for image in images])], [], None, None)

    for batch in build_evaluation_loader(split, to_views, 4, workers=workers):
        reds += batch.views[0].flatten().tolist()
    return reds


@pytest.mark.parametrize(("num_images", "copied"), [(12, False), (30, True)])
def test_evaluating_a_sample_copies_nothing(
    server: tuple[type[Handler], str], tmp_path: Path, num_images: int, copied: bool
) -> None:
    """The bank of pre-training reads 6 of the 20 images of each shard here; copies are for what reads most of them."""
    keys = {"stage_to": str(tmp_path / "node"), "cache_megabytes": 0, "verify": "none", "duplicates": "ignore"}
    keys |= {"validation_split": "none", "validation_fraction": 0, "workers": 0, "image_size": 4}
    config = DataConfig(source=server[1] + SHARDS, **keys)
    train = open_splits(config, labeled=True).train
    bank = sample_images(train.labeled(), num_images, seed=0, stream="knn bank")
    accelerator = SimpleNamespace(num_processes=1, autocast=nullcontext)
    run = SimpleNamespace(num_processes=1, rank=0, device=torch.device("cpu"), accelerator=accelerator)
    outputs, _ = predict(bank, torch.nn.Flatten(), run, config, crop_pct=1.0, batch_size=8)  # type: ignore[arg-type]
    assert len(outputs) == num_images and bool(list((tmp_path / "node").rglob("a-*.tar"))) is copied


def test_copies_never_exceed_the_limit(
    server: tuple[type[Handler], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What has no room beside copies in use is requested from the server, with a warning; old copies make room."""
    monkeypatch.setattr(fetching, "_READS_WITHOUT_ROOM", 0)
    keys = {"stage_to": str(tmp_path / "node"), "stage_gigabytes": 6e-5, "verify": "none", "cache_megabytes": 0}
    train = open_splits(DataConfig(source=server[1] + SHARDS, **keys), labeled=True).train.copied_as_read()
    plain = open_splits(DataConfig(source=server[1] + SHARDS, cache_megabytes=0), labeled=True).train

    def read(indices: Iterable[int]) -> list[str]:
        for index in indices:
            assert (train.image(index) == plain.image(index)).all()
        assert sum(path.stat().st_size for path in (tmp_path / "node").rglob("*") if path.is_file()) <= 60_000
        return [path.name[:10] for path in (tmp_path / "node").rglob("a-*.tar")]

    assert read(range(len(train))) == ["a-train-00"] and "copies that are in use leave no room" in caplog.text
    os.utime(next((tmp_path / "node").rglob("a-*.tar")), (1, 1))  # read long ago
    assert read(reversed(range(len(train)))) == ["a-train-01"]


def test_a_shard_larger_than_the_limit_is_named_once_and_never_tried(
    server: tuple[type[Handler], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No other copy would have to go for it: the folder is not looked through, and the warning has the shard's size."""
    monkeypatch.setattr(fetching, "_READS_WITHOUT_ROOM", 0)
    monkeypatch.setattr(ShardCache, "reserve", lambda *_: pytest.fail("asks for room"))
    size = write_labeled(tmp_path / "set" / "a-train-01.tar", range(20, 50)).stat().st_size
    limit = (size - 1) / 1e9
    keys = {"stage_to": str(tmp_path / "node"), "stage_gigabytes": limit, "verify": "none", "cache_megabytes": 0}
    source = server[1] + "/set/a-{train-01,validation-00}.tar"
    train = open_splits(DataConfig(source=source, **keys), labeled=True).train
    assert len(set(read_by_loader(train))) == len(train) > 20
    warnings = [record.getMessage() for record in caplog.records if "data.stage_gigabytes" in record.getMessage()]
    assert len(warnings) == 1 and f"the largest, {server[1]}/set/a-train-01.tar, has {size / 1e9:g})" in warnings[0]
    assert f"data.stage_gigabytes = {limit:g}: 1 of the 1 shards of the split 'train'" in warnings[0]


def test_room_for_copies_is_shared_by_processes(tmp_path: Path) -> None:
    """A copy that another process is making counts with its whole size; one that nobody completes makes room."""
    cache = ShardCache(tmp_path, 100)
    mine, other = tmp_path / "a-00000000.tar", tmp_path / "b-00000000.tar"
    with hold_lock(cache.lock_of(mine)):
        assert (part := cache.reserve(mine, 60)) is not None
        part.write_bytes(b"0123456789")
        assert cache.reserve(other, 41) is None and cache.reserve(mine, 60) == part
        assert cache.reserve(other, 40) is not None
    assert cache.reserve(other, 91) is not None and not part.exists()
    assert cache.reserve(other, 101) is None


def test_files_of_the_user_in_the_folder_of_copies_are_kept(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    """Copies of other programs, of other disks, and those in folders below it: only what was fetched makes room."""
    mine = [tmp_path / "node" / name for name in ("backup/thesis.tar", "a-train-00.tar", "fetched_shards/mine.tar")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(10**6))
        os.utime(path, (1, 1))
    keys = {"stage_to": str(tmp_path / "node"), "stage_gigabytes": 7e-5, "verify": "none", "cache_megabytes": 0}
    train = open_splits(DataConfig(source=server[1] + SHARDS, **keys), labeled=True).train.copied_as_read()
    for index in range(len(train)):
        train.image(index)
    assert all(path.stat().st_size == 10**6 for path in mine)
    assert list((tmp_path / "node" / "fetched_shards").glob("a-train-0*-*.tar"))


@pytest.mark.parametrize("copied", [True, False])
def test_a_shard_that_changes_on_the_server_is_an_error(
    server: tuple[type[Handler], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    """Its images would be read at the positions of the old one: by the next request, or by a copy that begins then."""
    monkeypatch.setattr(fetching, "_READS_BEFORE_FETCH", 1)
    keys = {"stage_to": str(tmp_path / "node")} if copied else {}
    config = DataConfig(source=server[1] + SHARDS, verify="none", cache_megabytes=0, duplicates="ignore", **keys)
    train = open_splits(config, labeled=True, decodes=False).train
    train = train.copied_as_read() if copied else train
    train.image(0)
    with (tmp_path / "set" / "a-train-00.tar").open("ab") as file:
        file.write(bytes(10240))
    with pytest.raises(ProcessError, match=r"has changed on the server\)\. Start the run again\.$"):
        train.image(1)
    assert not list((tmp_path / "node").rglob("*.fetching"))


def test_a_server_that_fails_changes_no_fingerprint(server: tuple[type[Handler], str]) -> None:
    """An image that it does not send is none that is damaged."""
    train = open_splits(DataConfig(source=server[1] + SHARDS, verify="none", cache_megabytes=0), labeled=True).train
    server[0].failures = 10**6
    reads: tuple[Callable[[], object], ...] = (
        lambda: train.images.content(0),
        lambda: read_images(train.image, len(train), [SampleKey(0, 0, 0, 0)], replacement_seed=0),
        lambda: measure_channels(train),
        lambda: thumbnails(train, threads=1),
        lambda: verify_and_cache({"train": train}, verify="all", cache_bytes=0, threads=1, max_corrupt=None),
    )
    for read in reads:
        with pytest.raises(ProcessError, match="503"):
            read()


def test_addresses_that_differ_in_more_than_their_path_are_named(server: tuple[type[Handler], str]) -> None:
    """Shards are named by their paths."""
    with pytest.raises(UserError, match=r"b.tar\?id=1 have the same path"):
        open_splits(DataConfig(source=server[1] + "/set/b.tar?id={0,1}"), labeled=True)


def test_another_kind_is_refused(server: tuple[type[Handler], str]) -> None:
    """data.kind says what a source is read as."""
    with pytest.raises(UserError, match="data.kind is class_folders, but data.source .* is tar files"):
        open_splits(DataConfig(source=server[1] + SHARDS, kind="class_folders"), labeled=True)


def test_a_disk_that_is_too_small_is_named_before_training(server: tuple[type[Handler], str], tmp_path: Path) -> None:
    """The error has both sizes; so has one of the keys without the others."""
    keys = {"stage_to": str(tmp_path / "node"), "stage_gigabytes": 1e9}
    with pytest.raises(
        UserError, match=r"data.stage_gigabytes = 1e\+09: the disk of .* has room for .* Set it to less"
    ):
        open_splits(DataConfig(source=server[1] + SHARDS, **keys), labeled=True)
    assert "set data.stage_to, too" in problems_of(DataConfig, stage_gigabytes=1.0)["stage_gigabytes"]
    with pytest.raises(UserError, match="data.stage_gigabytes is '1.0', but .* not on a server"):
        open_splits(DataConfig(source=str(tmp_path / "set"), **{**keys, "stage_gigabytes": 1}), labeled=True)


def test_images_of_a_full_disk_come_from_the_server(
    server: tuple[type[Handler], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy that cannot be written is a warning, not a corrupt image."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FetchedShard, "_copy", refuse)
    keys = {"stage_to": str(tmp_path / "node"), "cache_megabytes": 0}
    train = open_splits(DataConfig(source=server[1] + SHARDS, **keys), labeled=True).train.copied_as_read()
    assert {train.image(index)[0, 0, 0] for index in range(20)} and "No space left" in caplog.text


def test_connections_are_kept(server: tuple[type[Handler], str]) -> None:
    """A process reads all its images over one connection, and a worker over one of its own."""
    kind, address = server
    keys = {"verify": "none", "cache_megabytes": 0, "duplicates": "ignore", "workers": 0}
    train = open_splits(DataConfig(source=address + SHARDS, **keys), labeled=True).train
    before = kind.connections
    images = [train.image(index)[0, 0, 0] for index in range(len(train))]
    assert kind.connections <= before + 1
    before = kind.connections
    assert read_by_loader(train, workers=2) == images
    assert kind.connections == before + 2
    assert [train.image(index)[0, 0, 0] for index in range(len(train))] == images  # the workers' end closed none
    assert kind.connections == before + 2


def test_a_connection_that_the_server_closes_is_opened_again(
    server: tuple[type[Handler], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers close connections that are not used for a while; the next request does not wait."""
    kind, address = server
    train = open_splits(DataConfig(source=address + SHARDS, verify="none", cache_megabytes=0), labeled=True).train
    images = [train.image(index)[0, 0, 0] for index in range(5)]
    kind.drops = True
    monkeypatch.setattr(places.time, "sleep", lambda _: pytest.fail("waits"))
    assert [train.image(index)[0, 0, 0] for index in range(5)] == images


def test_a_connection_that_was_idle_is_not_used_again(
    server: tuple[type[Handler], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router may have forgotten it silently: a request over it would wait for its timeout. Without a pause it is kept."""
    kind, address = server
    train = open_splits(DataConfig(source=address + SHARDS, verify="none", cache_megabytes=0), labeled=True).train
    clock = [time.monotonic()]
    monkeypatch.setattr(connections, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(places, "_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(places.time, "sleep", lambda _: pytest.fail("waits"))
    image, before = train.image(0), kind.connections
    clock[0] += 25
    assert (train.image(0) == image).all() and kind.connections == before
    clock[0] += 31
    kind.lost = before
    assert (train.image(0) == image).all() and kind.connections == before + 1


def test_replacements_are_refused(server: tuple[type[Handler], str]) -> None:
    """An image that a server fails to send is not corrupt."""
    with pytest.raises(UserError, match="data.on_corrupt is 'skip', but data.source is on a server"):
        open_splits(DataConfig(source=server[1] + SHARDS, on_corrupt="skip"), labeled=True)


@pytest.mark.run
def test_a_run_resumes_exactly(server: tuple[type[Handler], str], tmp_path: Path, stage: Callable[..., int]) -> None:
    """A run from a server with an order over shards ends bit by bit as one from the folder, also when it is resumed."""
    keys = (
        "train.shuffle_shards=1",
        "data.image_size=12",
        "data.images_per_class=none",
        "train.batch_size=8",
        "train.epochs=2",
    )
    folder = (f"data.source={tmp_path / 'set'}", *keys)
    remote = (f"data.source={server[1]}{SHARDS}", f"data.stage_to={tmp_path / 'node'}", "data.cache_megabytes=0", *keys)
    assert stage("finetune", tmp_path / "folder", *folder) == 0
    assert stage("finetune", tmp_path / "remote", *remote, "train.checkpoint_steps=1") == 0
    (tmp_path / "remote" / "result.json").unlink()
    checkpoints = sorted((tmp_path / "remote" / "checkpoints").glob("step-*"))
    newest = checkpoints[-1] / "state.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])  # damaged: the run resumes from the one before
    assert stage("finetune", tmp_path / "remote", *remote) == 0
    assert {path.name[:10] for path in (tmp_path / "node").rglob("a-*.tar")} >= {"a-train-00", "a-train-01"}
    assert_same_run(tmp_path / "folder", tmp_path / "remote")
