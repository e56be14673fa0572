"""Opening of tables with Hugging Face datasets: assignment of files to splits, error messages for load failures."""

import glob
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from common.data.images.formats import FIRST_BYTES, describe_other
from common.data.sources.column_types import columns_to_read, log_unread_columns
from common.data.sources.listing import IMAGE_EXTENSIONS
from common.data.sources.local_tables import (
    check_columns,
    check_path,
    have_same_columns,
    load_explained,
    load_with_cache,
    open_in_place,
    unpacked_bytes,
)
from common.data.sources.missing_labels import is_unlabeled_name, unlabeled_among
from common.data.sources.split_names import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES, split_role
from common.data.sources.tables import Shard, TableOptions, TableSource
from common.errors import UserError
from common.files import path_exists

_log = logging.getLogger(__name__)

TABLE_EXTENSIONS = (".parquet", ".arrow")
_SHARD = re.compile(r"(-\d+-of-\d+.*|[-_.]?\d+)$")
_CACHE = re.compile(r"cache-[0-9a-f]{16}(_\d{5}_of_\d{5})?\.arrow")
"""Names of the files in which `datasets` keeps what `map` and `filter` returned, beside the tables that they were given."""
_ROLES = (*TRAIN_NAMES, *VALIDATION_NAMES, *TEST_NAMES)


def find_table_files(folder: Path, *, only_with_images: bool = False) -> list[Path]:
    """Return the sorted tables in `folder` and its subfolders, of the format of the first; none if an image comes first.

    Hidden files and folders are skipped. The search stops at the first image, so a large image folder is not walked.
    `only_with_images`: tables without a column of images are none, if there are image files beside them.
    """
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = sorted(name for name in files if not name.startswith("."))
        tables = [name for name in visible if name.lower().endswith(TABLE_EXTENSIONS)]
        found += [Path(parent) / name for name in tables if name != "metadata.parquet"]
        has_images = any(name.lower().endswith(IMAGE_EXTENSIONS) for name in visible)
        if has_images and not found:
            return []
        if has_images and only_with_images and not _has_image_column(found[0]):
            _log.info("data: %s has no column of images and is not read: the image files beside it are", found[0])
            return []
    kept = _without_caches(found)
    return sorted(path for path in kept if path.suffix.lower() == kept[0].suffix.lower())


def _without_caches(files: list[Path]) -> list[Path]:
    """Return tables without those that `datasets` derived from others, unless there are no others."""
    others = [path for path in files if not _CACHE.fullmatch(path.name)]
    if others and len(others) < len(files):
        words = (len(files) - len(others), files[0].parent)
        _log.info(
            "data: %d tables in %s are not read: by their names, datasets derived them from others",
            *words,
        )
    return others or files


def _has_image_column(path: Path) -> bool:
    """Return whether a table has a column of encoded images; True if that cannot be read, so that the table is named."""
    import pyarrow
    import pyarrow.parquet

    if path.suffix.lower() != ".parquet":
        return True
    try:
        schema = pyarrow.parquet.read_schema(path)
    except (pyarrow.ArrowException, OSError):
        return True
    kinds = [field.type for field in schema]
    kinds += [
        kind.field(index).type for kind in kinds if pyarrow.types.is_struct(kind) for index in range(kind.num_fields)
    ]
    return any("binary" in str(kind) for kind in kinds)


def match_files(pattern: str, allowed: Sequence[str] = TABLE_EXTENSIONS) -> list[Path]:
    """Return the sorted files that match a glob pattern; raise UserError if none match, or if their extensions differ."""
    files = _without_caches(sorted(Path(path) for path in glob.glob(pattern, recursive=True) if Path(path).is_file()))
    if not files:
        raise UserError(f"data.source '{pattern}': no file matches the pattern.")
    extensions = {path.suffix.lower() for path in files}
    if len(extensions) > 1 or not extensions <= set(allowed):
        raise UserError(
            f"data.source '{pattern}': the files have the extensions {', '.join(sorted(extensions))}; all must be"
            f" {' or all '.join(allowed)}. Set data.source to a folder to read image files."
        )
    return files


def group_by_split(files: list[Path], root: Path, *, declared: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Return the files of each split, according to their paths relative to `root`.

    A file belongs to the split train, test, validation, val, valid or dev if its name or the name of a parent folder
    contains that word (train.parquet, train-00000-of-00005.parquet, cifar_test.parquet, train/0000.parquet). Any other
    file belongs to a split named by its stem without shard numbers; so does train_extra.parquet beside train.parquet. If no file
    belongs to one of these splits, nor to one in `declared` (the split names of the configuration), all files form the split
    'train', except those beside others that are called unlabeled.
    """
    found = [(path, *_split_name(path.relative_to(root))) for path in files]
    usual = {name for _, name, base in found if base.lower() == name}
    groups: dict[str, list[Path]] = {}
    for path, name, base in found:
        words = re.findall(r"[a-z]+", base.lower())
        is_other = name in usual and words[:1] == [name] and len(words) > 1  # train_extra, test_unlabeled
        groups.setdefault(base if is_other else name, []).append(path)
    if any(name in (*_ROLES, *declared) for name in groups):
        return groups
    unlabeled = {name: paths for name, paths in groups.items() if name in unlabeled_among(list(groups))}
    return {"train": [path for path in files if not any(path in paths for paths in unlabeled.values())], **unlabeled}


def _split_name(path: Path) -> tuple[str, str]:
    """Return the name of the split that a relative path belongs to, and the name without shard numbers that tells it."""
    for text in (path.stem, *reversed(path.parent.parts)):
        base = _SHARD.sub("", text) or text
        if is_unlabeled_name(base):
            name = re.sub(r"\W+", "_", base)
            return name, name
        words = re.split(r"[^a-z]+", text.lower())
        role = next((word for word in words if word in _ROLES), None) or split_role(text)
        if role is not None:
            return role, base
    name = _SHARD.sub("", path.stem) or path.stem
    return name, name


def check_one_data_set(groups: Mapping[str, Sequence[Path]]) -> None:
    """Raise UserError for files of one split in several folders that are called the same: configurations of a data set."""
    for name, paths in groups.items():
        folders = {path.parent for path in paths}
        names = Counter(path.name for path in paths)
        if len(folders) > 1 and all(count == len(folders) for count in names.values()):
            first, second = sorted(folders)[:2]
            raise UserError(
                f"data.source: the folders {first} and {second} both have the file {sorted(names)[0]} of the split '{name}': they"
                f" seem to be data sets of their own. Set data.source to one of them, or to a pattern of files to read all:"
                f" '{os.path.commonpath(folders)}/*/*{paths[0].suffix}'."
            )


def open_table_files(
    files: list[Path], root: Path, options: TableOptions, *, title: str, declared: Sequence[str]
) -> TableSource:
    """Open parquet or arrow files as one source.

    `root` is the common parent folder of the files; `declared` are the split names of the configuration. Parquet files up to
    `options.memory_bytes` are read into memory, larger ones are unpacked into a cache.
    """
    groups = group_by_split(files, root, declared=declared)
    num_rows = {path: _count_rows(path) for path in files}
    groups = {name: [path for path in paths if num_rows[path]] or paths[:1] for name, paths in groups.items()}
    check_columns(groups)
    log_unread_columns(title, files)
    shards = {
        name: tuple(Shard(str(path), num_rows[path], path.relative_to(root).as_posix()) for path in paths)
        for name, paths in groups.items()
    }
    apart = unlabeled_among(list(groups), declared)  # their tables often have no column of labels
    parts = [
        {name: paths for name, paths in groups.items() if name not in apart},
        *({name: groups[name]} for name in apart),
    ]
    opened, mapped, limit_bytes = dict[str, Any](), list[str](), options.memory_bytes
    for part in parts:
        if (in_place := open_in_place(part, limit_bytes=limit_bytes)) is not None:
            opened |= in_place
            mapped += in_place if files[0].suffix.lower() == ".arrow" else ()
        else:
            opened |= _unpack(title, part, options.stage_to)
        limit_bytes -= unpacked_bytes([path for paths in part.values() for path in paths]) if apart else 0
    return TableSource(title, opened, shards, options, base=root, mapped=mapped)


def _unpack(title: str, groups: dict[str, list[Path]], unpack_to: Path | None) -> dict[str, Any]:
    """Return the splits of files that cannot be read where they lie, unpacked into a folder, or else the library's cache."""
    files = [path for paths in groups.values() for path in paths]
    file_format = files[0].suffix.lower().removeprefix(".")
    data_files = {name: [glob.escape(str(path.absolute())) for path in group] for name, group in groups.items()}
    size = unpacked_bytes(files)
    for path in files:
        check_path(path, remedy=f", or data.cache_megabytes={size // 2**20 + 1} to read the table into memory")
    # Splits with different columns are not one data set for the library.
    parts = [data_files] if have_same_columns(groups) else [{name: paths} for name, paths in data_files.items()]
    loaded = dict[str, Any]()
    for part in parts:
        columns = columns_to_read(groups[next(iter(part))][0])
        load = partial(load_with_cache, title, file_format, part, num_bytes=size, unpack_to=unpack_to, columns=columns)
        loaded |= dict(load_explained(title, load, num_bytes=size))
    return loaded


def _count_rows(path: Path) -> int:
    """Return the number of rows of a table; raise UserError with its path if it is damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".parquet":
            return int(pyarrow.parquet.read_metadata(path).num_rows)
        with pyarrow.memory_map(str(path)) as mapped:
            if mapped.read(6) == b"ARROW1":  # the file format, with an index at its end
                reader = pyarrow.ipc.open_file(mapped)
                return sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))
            mapped.seek(0)
            return sum(batch.num_rows for batch in pyarrow.ipc.open_stream(mapped))
    except (pyarrow.ArrowException, OSError) as error:
        reason = _name_other(path) or (str(error).splitlines()[0] if str(error) else type(error).__name__)
        raise UserError(f"data.source: {path} is damaged or not a {path.suffix} file ({reason}).") from error


def _name_other(path: Path) -> str | None:
    """Return what a file is that is no table, with the remedy, if it can be read and is known."""
    try:
        with path.open("rb") as file:
            other = describe_other(file.read(FIRST_BYTES))
    except OSError:
        return None
    return (
        None
        if other is None or other[0] == "a parquet table"
        else f"{other[0].partition(',')[0]}. {other[1].rstrip('.')}"
    )


def is_saved_dataset(folder: Path) -> bool:
    """Return whether the folder was written by `save_to_disk`: `state.json` alone may be any program's."""
    if path_exists(folder / "dataset_dict.json"):
        return True
    return path_exists(folder / "state.json") and path_exists(folder / "dataset_info.json")


def open_saved_dataset(folder: Path, options: TableOptions) -> TableSource:
    """Open a folder written by `save_to_disk`; a dataset without splits becomes the split 'train'."""
    import datasets

    title = f"the saved dataset {folder}"
    check_path(folder, expands=False)
    opened = load_explained(title, lambda: datasets.load_from_disk(str(folder)))
    splits = dict(opened) if isinstance(opened, dict) else {"train": opened}
    folders = {name: str(folder / name) if isinstance(opened, dict) else str(folder) for name in splits}
    shards = {name: (Shard(folders[name], len(split), name),) for name, split in splits.items()}
    return TableSource(title, splits, shards, options, base=folder)
