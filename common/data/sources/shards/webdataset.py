"""Source of tar shards in the layout of webdataset: `train-0000.tar` with `name.jpg` and `name.cls` or `name.json`."""

import logging
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from common.data.sources.listing import IMAGE_EXTENSIONS
from common.data.sources.missing_labels import are_labels_used
from common.data.sources.shards.addresses import expand_braces, shown_address
from common.data.sources.shards.fetching import FetchedShard, warn_of_large_shards
from common.data.sources.shards.index_store import load_or_build
from common.data.sources.shards.places import LocalShard, RemoteShard, ShardPlace
from common.data.sources.shards.samples import read_samples
from common.data.sources.shards.shard_cache import ShardCache
from common.data.sources.shards.tar_images import TarImages
from common.data.sources.split import UNLABELED, Split
from common.data.sources.staging import stage_files
from common.data.sources.table_files import TABLE_EXTENSIONS, group_by_split
from common.data.sources.tables import TableOptions
from common.errors import UserError

_log = logging.getLogger(__name__)

EXTENSION = ".tar"
FETCHED = "fetched_shards"
"""Folder in `data.stage_to` of the copies that are removed where there is a limit: nothing else may lie there."""
_PROBED = 8
"""Samples of the first shard that are read to tell shards from other tar files."""


class WebDatasetSource:
    """Splits of tar shards. An index of a split is built when it is read for the first time."""

    def __init__(self, title: str, shards: Mapping[str, Sequence[ShardPlace]], options: TableOptions) -> None:
        """Take the shards of each split; raise UserError for options that apply to columns."""
        for key, value in (("image_column", options.image_column), ("group_column", options.group_column)):
            if value is not None:
                raise UserError(
                    f"data.{key} is '{value}', but {title} are tar shards, which have no columns. Remove the key"
                    f"{'; data.group_pattern finds groups in the names of the images' if key == 'group_column' else ''}."
                )
        self.title = title
        self._shards, self._options = shards, options

    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""
        return tuple(self._shards)

    def read(self, name: str, *, labeled: bool) -> Split:
        """Return split `name`; raise UserError if labels are required and missing, or if a shard is damaged."""
        title, shards = f"the split '{name}' of {self.title}", self._shards[name]
        column = self._options.label_column
        index, folder = load_or_build(shards, label_column=column, title=title)
        warn_of_large_shards(shards, self._options.stage_bytes, title=title)
        copies = self._copies(shards, title)
        images = TarImages(index, folder, shards, decoder=self._options.decoder, copies=copies)
        unlabeled = Split(images=images, labels=None, class_names=())
        labels = index.labels.astype(np.int64)
        column = column or ".cls or .json"
        if not len(labels):
            raise UserError(f"data.source: {title} has no images in its {len(shards)} tar files.")
        if labeled and (labels == UNLABELED).all():
            raise UserError(
                f"data.label_column: no image of {title} has a label in {column}. Set data.label_column to the extension or to the"
                " key of .json that has it. A tar file with a folder for each class is no shard: extract it."
            )
        is_used = are_labels_used(
            labels,
            labeled=labeled,
            keeps_unlabeled=self._options.keeps_unlabeled,
            column=column,
            title=title,
            name_of=images.name,
        )
        if not is_used:
            return unlabeled
        _log.info("data: %s: %d images in %d tar files, labels from %s", title, len(index), len(shards), column)
        return Split(images=images, labels=labels, class_names=index.class_names)

    def _copies(self, shards: Sequence[ShardPlace], title: str) -> list[LocalShard] | None:
        """Return the copies of shards on the node; None if they are read where they are."""
        local = [shard for shard in shards if isinstance(shard, LocalShard)]
        if self._options.stage_to is None or not local:  # shards of a server are copied one by one
            return None
        copies = stage_files([shard.path for shard in local], local[0].root, self._options.stage_to, title=title)
        return [LocalShard(copy, copy.parent) for copy in copies]


def open_shards(
    shards: Sequence[Path], root: Path, options: TableOptions, *, title: str, declared: Sequence[str]
) -> WebDatasetSource:
    """Return the source of tar shards under `root`; `declared` are the split names of the configuration."""
    groups = group_by_split(list(shards), root, declared=declared)
    places = {name: [LocalShard(path, root) for path in paths] for name, paths in groups.items()}
    return WebDatasetSource(title, places, options)


def open_remote_shards(address: str, options: TableOptions, *, declared: Sequence[str]) -> WebDatasetSource:
    """Return the source of tar shards on an HTTP server: addresses with `{0000..1023}` or `{train,validation}` for several."""
    addresses = expand_braces(address)
    if other := next((each for each in addresses if not urlsplit(each).path.lower().endswith(EXTENSION)), None):
        raise UserError(
            f"data.source '{shown_address(address)}': {shown_address(other)} is not the address of a {EXTENSION} file. Give those"
            " of all shards: https://host/train-{0000..1023}.tar; a server does not list its files."
        )
    paths: dict[Path, str] = {}
    for each in addresses:
        other = paths.setdefault(Path(urlsplit(each).path), each)
        if other != each:
            raise UserError(
                f"data.source '{address}': {other} and {each} have the same path, by which shards are told from each other. Give"
                " addresses of one server whose paths differ."
            )
    root = Path(os.path.commonpath([path.parent for path in paths]))
    cache = None if options.stage_to is None else ShardCache(options.stage_to / FETCHED, options.stage_bytes)
    if cache is not None:
        cache.check()
    places: dict[str, list[ShardPlace]] = {}
    for name, group in group_by_split(list(paths), root, declared=declared).items():
        remote = [RemoteShard(paths[path], path.relative_to(root).as_posix()) for path in group]
        places[name] = [*remote] if cache is None else [FetchedShard(shard, cache) for shard in remote]
    return WebDatasetSource(f"the shards {shown_address(address)}", places, options)


def find_shards(folder: Path) -> list[Path]:
    """Return the sorted tar files in `folder` and its subfolders; none if images or tables come first, or lie beside them.

    Hidden files and folders are skipped. The search stops at the first image, so a large image folder is not walked.
    """
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = [name for name in files if not name.startswith(".")]
        if any(name.lower().endswith((*IMAGE_EXTENSIONS, *TABLE_EXTENSIONS)) for name in visible):
            return []
        found += [Path(parent) / name for name in visible if name.lower().endswith(EXTENSION)]
    return sorted(found)


def have_labels(shards: Sequence[Path], label_column: str | None) -> bool:
    """Return whether an image of the first samples has a label, unlike those of an archive of class folders."""
    samples = islice(read_samples(LocalShard(shards[0], shards[0].parent), label_column=label_column), _PROBED)
    return any(sample.label is not None for sample in samples)
