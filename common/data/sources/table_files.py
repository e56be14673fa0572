"""Owns opening tables: which files make which split, and the words for what Hugging Face's datasets refuses."""

import glob
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common.data.sources.folders import IMAGE_EXTENSIONS
from common.data.sources.source import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES
from common.data.sources.tables import Part, TableSource
from common.errors import UserError

TABLE_EXTENSIONS = (".parquet", ".arrow")
_ROLES = (*TRAIN_NAMES, *VALIDATION_NAMES, *TEST_NAMES)


def find_table_files(folder: Path) -> list[Path]:
    """Return the tables in `folder` and below, sorted, of the kind of the first; none where images come first.

    Hidden files and folders are passed over. A large folder of images is known by its first one.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = sorted(name for name in files if not name.startswith("."))
        found += [Path(place) / name for name in visible if name.lower().endswith(TABLE_EXTENSIONS)]
        if not found and any(name.lower().endswith(IMAGE_EXTENSIONS) for name in visible):
            return []
    return sorted(path for path in found if path.suffix.lower() == found[0].suffix.lower())


def match_table_files(pattern: str) -> list[Path]:
    """Return the files that fit a pattern, sorted; raise UserError for none, and for any that is no table."""
    files = sorted(Path(path) for path in glob.glob(pattern, recursive=True) if Path(path).is_file())
    if not files:
        raise UserError(f"data.source '{pattern}': no file fits the pattern.")
    kinds = {path.suffix.lower() for path in files}
    if len(kinds) > 1 or not kinds <= set(TABLE_EXTENSIONS):
        raise UserError(
            f"data.source '{pattern}': the files are {', '.join(sorted(kinds))}; they must all be of one kind, .parquet"
            " or .arrow. Name a folder to read image files."
        )
    return files


def group_by_split(files: list[Path], root: Path, *, declared: Sequence[str] = ()) -> dict[str, list[Path]]:
    """Return the files of each split, told by their names below `root`.

    A file whose name, or the name of a folder it lies in, has train, test, validation, val, valid or dev as one of its
    words (train.parquet, train-00000-of-00005.parquet, cifar_test.parquet, train/0000.parquet) belongs to that split,
    any other to the split of its name without numbers. Where no file is of such a split, nor of one in `declared`
    (those a user names), all are of 'train'.
    """
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault(_split_name(path.relative_to(root)), []).append(path)
    return groups if any(name in (*_ROLES, *declared) for name in groups) else {"train": files}


def _split_name(path: Path) -> str:
    """Return the split that a file's relative path stands for."""
    for text in (path.stem, *reversed(path.parent.parts)):
        words = re.split(r"[^a-z]+", text.lower())
        role = next((word for word in words if word in _ROLES), None)
        if role is not None:
            return role
    return re.sub(r"(-\d+-of-\d+.*|[-_.]?\d+)$", "", path.stem) or path.stem


def open_table_files(
    files: list[Path],
    root: Path,
    *,
    title: str,
    image_column: str | None,
    label_column: str | None,
    declared: Sequence[str],
) -> TableSource:
    """Open parquet or arrow files as one source.

    `root` is the folder that they were found in, `declared` are the splits a user names.
    """
    import datasets

    groups = group_by_split(files, root, declared=declared)
    parts = {name: tuple(Part(str(path), _count_rows(path)) for path in paths) for name, paths in groups.items()}
    kind = files[0].suffix.lower().removeprefix(".")
    paths = {name: [glob.escape(str(path.absolute())) for path in group] for name, group in groups.items()}
    opened = _open(title, lambda: datasets.load_dataset(kind, data_files=paths))
    return TableSource(title, dict(opened), parts, image_column=image_column, label_column=label_column, base=root)


def _count_rows(path: Path) -> int:
    """Return the number of rows of a table; raise UserError with its path when it is damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix.lower() == ".parquet":
            return int(pyarrow.parquet.read_metadata(path).num_rows)
        with pyarrow.memory_map(str(path)) as mapped:
            return sum(batch.num_rows for batch in pyarrow.ipc.open_stream(mapped))
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"data.source: {path} is damaged or no {path.suffix} file ({reason}).") from error


def is_saved_dataset(folder: Path) -> bool:
    """Say whether save_to_disk wrote the folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def open_saved_dataset(folder: Path, *, image_column: str | None, label_column: str | None) -> TableSource:
    """Open a folder that save_to_disk wrote; a single data set is one split, 'train'."""
    import datasets

    title = f"the saved data set {folder}"
    opened = _open(title, lambda: datasets.load_from_disk(str(folder)))
    splits = dict(opened) if isinstance(opened, dict) else {"train": opened}
    places = {name: str(folder / name) if isinstance(opened, dict) else str(folder) for name in splits}
    parts = {name: (Part(places[name], len(split)),) for name, split in splits.items()}
    return TableSource(title, splits, parts, image_column=image_column, label_column=label_column, base=folder)


def is_described(folder: Path) -> bool:
    """Say whether a metadata file describes the images of a folder or of the folders in it.

    The names are asked for one by one: a pattern would go through every image of every class.
    """
    with os.scandir(folder) as entries:
        places = [folder, *(Path(entry.path) for entry in entries if entry.is_dir())]
    return any((place / f"metadata.{kind}").is_file() for place in places for kind in ("csv", "jsonl", "parquet"))


def open_described_folder(folder: Path, *, image_column: str | None, label_column: str | None) -> TableSource:
    """Open a folder of images that a metadata file (metadata.csv, .jsonl or .parquet) describes."""
    import datasets

    title = f"the folder {folder} with its metadata file"
    opened = dict(_open(title, lambda: datasets.load_dataset("imagefolder", data_dir=str(folder.absolute()))))
    parts = {name: (Part(f"{folder} {name}", len(split)),) for name, split in opened.items()}
    return TableSource(title, opened, parts, image_column=image_column, label_column=label_column, base=folder)


def open_hub_dataset(
    name: str, *, config_name: str | None, revision: str | None, image_column: str | None, label_column: str | None
) -> TableSource:
    """Open a data set of the Hugging Face hub at a revision, downloading it into the cache the first time."""
    import datasets

    title = f"the hub data set {name}" + (f" at revision {revision}" if revision else "")
    opened = dict(
        _open(
            title,
            lambda: datasets.load_dataset(name, name=config_name, revision=revision),
            remedy=f" There is no folder or file '{name}' on this machine either. Look at the spelling,"
            " data.config_name and data.revision, and, for a private one, at `hf auth login`.",
        )
    )
    parts = {split: (Part(f"{name} {split}", len(table)),) for split, table in opened.items()}
    return TableSource(title, opened, parts, image_column=image_column, label_column=label_column, base=Path())


def _open(title: str, load: Callable[[], Any], *, remedy: str = "") -> Any:
    """Return what `load` opens; turn whatever the library raises, of any class, into UserError with its first line."""
    try:
        return load()
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
        raise UserError(f"data.source: {title} cannot be opened ({type(error).__name__}: {reason}).{remedy}") from error
