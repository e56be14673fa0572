"""Open the data source of a configuration: digits, image folder, tables, saved dataset or Hub dataset."""

import glob
import logging
import os
import re
from pathlib import Path

from common.data.config import DataConfig
from common.data.images.decode import ImageDecoder
from common.data.sources.digits import DigitsSource
from common.data.sources.folders import FolderSource
from common.data.sources.folders_or_lists import labels_of_folders
from common.data.sources.groups import GroupedSource, groups_of_list, groups_of_names
from common.data.sources.hub_tables import open_hub_dataset
from common.data.sources.listing import Listing
from common.data.sources.metadata import MetadataSource, split_groups
from common.data.sources.metadata_files import MetadataFile, find_metadata, read_metadata
from common.data.sources.shards.webdataset import EXTENSION as TAR_EXTENSION
from common.data.sources.shards.webdataset import find_shards, have_labels, open_remote_shards, open_shards
from common.data.sources.source import Source
from common.data.sources.table_files import (
    TABLE_EXTENSIONS,
    check_one_data_set,
    find_table_files,
    group_by_split,
    is_saved_dataset,
    match_files,
    open_saved_dataset,
    open_table_files,
)
from common.data.sources.tables import TableOptions
from common.errors import UserError
from common.files import path_exists
from common.paths import user_path

_log = logging.getLogger(__name__)

_HUB_ID = r"[\w.-]+(/[\w.-]+)?"
_COLUMN_KEYS = ("image_column", "label_column", "group_column")
FOLDER_KEYS = ("kind", "metadata_file", "leave_out")
"""Keys that apply to folders alone."""
_LOADERS = frozenset(
    (
        *(
            "arrow",
            "audiofolder",
            "cache",
            "csv",
            "eval",
            "folder",
            "generator",
            "hdf5",
            "imagefolder",
            "json",
            "lance",
        ),
        *("niftifolder", "pandas", "parquet", "pdffolder", "spark", "sql", "text", "videofolder", "webdataset", "xml"),
    )
)
"""Names of loaders of Hugging Face datasets: as a source they would read whatever lies in the working directory."""


def open_source(config: DataConfig, decoder: ImageDecoder) -> Source:
    """Return the source of `data.source`: the digits, a local path, or else a dataset of the Hugging Face Hub."""
    source = _open(config, decoder)
    return source if config.group_pattern is None else GroupedSource(source, groups_of_names(config.group_pattern))


def _open(config: DataConfig, decoder: ImageDecoder) -> Source:
    """Return the source, without the groups of `data.group_pattern`."""
    memory = config.cache_megabytes * 2**20
    options = TableOptions(
        config.image_column,
        config.label_column,
        decoder,
        memory,
        config.group_column,
        keeps_unlabeled=config.unlabeled != "auto",
        stage_to=None if config.stage_to is None else user_path(config.stage_to, "data.stage_to"),
        stage_bytes=None if config.stage_gigabytes is None else int(config.stage_gigabytes * 1e9),
    )
    declared = _declared_splits(config)
    if config.source.startswith(("http://", "https://")):
        return _open_addresses(config, options, declared)
    reject_keys(config, "not on a server, so all its shards are copied", "stage_gigabytes")
    path = user_path(config.source, "data.source")
    if glob.has_magic(config.source) and not path.exists():
        return _open_matches(path, config, options, declared)
    if config.source == "digits":
        reject_keys(
            config,
            "the bundled digits",
            "revision",
            "config_name",
            "unlabeled",
            *_COLUMN_KEYS,
            *FOLDER_KEYS,
            "stage_to",
        )
        return DigitsSource(decoder=decoder)
    if path.is_file():
        if path.suffix.lower() == TAR_EXTENSION:
            reject_keys(config, "a file", "revision", "config_name", "metadata_file", "leave_out")
            return _open_tar_files([path], path.parent, config, options, declared)
        reject_keys(config, "a file", "revision", "config_name", *FOLDER_KEYS)
        return _open_file(path, options)
    if path.is_dir():
        reject_keys(config, "a folder", "revision", "config_name")
        return _open_folder(path, config, options, declared)
    if config.source in _LOADERS:
        raise UserError(
            f"data.source '{config.source}' is the name of a loader, not of a data set, and there is no such folder. Set it to the"
            " folder or the files themselves."
        )
    if not re.fullmatch(_HUB_ID, config.source) or ("/" in config.source and path.parent.is_dir()):
        raise UserError(
            f"data.source '{config.source}': no such file or folder. Set it to 'digits', a folder, a parquet file, or the"
            " id of a Hub dataset (owner/name)."
        )
    reject_keys(config, "a Hub dataset", *FOLDER_KEYS)
    reject_keys(config, "a Hub dataset; HF_DATASETS_CACHE is the folder that it is unpacked into", "stage_to")
    return open_hub_dataset(config.source, options, config_name=config.config_name, revision=config.revision)


def _open_addresses(config: DataConfig, options: TableOptions, declared: list[str]) -> Source:
    """Open tar shards on a server."""
    _reject_other_kinds(config)
    reject_keys(config, "addresses of tar shards", "revision", "config_name", "metadata_file", "leave_out")
    if config.on_corrupt == "skip":
        raise UserError(
            "data.on_corrupt is 'skip', but data.source is on a server: images that it fails to send would be replaced like"
            " corrupt ones, and the results would depend on it. Remove the key, or copy the shards to a disk."
        )
    return open_remote_shards(config.source, options, declared=declared)


def _open_matches(pattern: Path, config: DataConfig, options: TableOptions, declared: list[str]) -> Source:
    """Open the tables or tar shards that a glob pattern matches."""
    files = match_files(str(pattern), (*TABLE_EXTENSIONS, TAR_EXTENSION))
    root = Path(os.path.commonpath([file.parent for file in files]))
    if files[0].suffix.lower() == TAR_EXTENSION:
        reject_keys(config, "a glob pattern", "revision", "config_name", "metadata_file", "leave_out")
        return _open_tar_files(files, root, config, options, declared)
    reject_keys(config, "a glob pattern", "revision", "config_name", *FOLDER_KEYS)
    return open_table_files(files, root, options, title=f"the tables {config.source}", declared=declared)


def _open_file(path: Path, options: TableOptions) -> Source:
    """Open a single table."""
    if path.suffix.lower() not in TABLE_EXTENSIONS:
        raise UserError(
            f"data.source '{path}' is a file, but not a {' or '.join(TABLE_EXTENSIONS)} table nor a .tar shard. Extract an archive"
            " and set data.source to the extracted folder."
        )
    return open_table_files([path], path.parent, options, title=f"the table {path}", declared=())


def _open_tar_files(
    files: list[Path], root: Path, config: DataConfig, options: TableOptions, declared: list[str]
) -> Source:
    """Open tar files that the configuration names; raise UserError for an archive of image folders."""
    _reject_other_kinds(config)
    if config.kind == "auto" and not have_labels(files, options.label_column):
        raise UserError(
            f"data.source '{config.source}': the first images in {files[0]} have no labels in .cls or .json. Extract an archive of"
            " image folders and set data.source to the extracted folder; data.kind=webdataset reads the images without labels, and"
            " data.label_column names another extension or key of .json."
        )
    return open_shards(files, root, options, title=f"the shards {config.source}", declared=declared)


def _reject_other_kinds(config: DataConfig) -> None:
    """Raise UserError if tar files are to be read as something else."""
    if config.kind not in ("auto", "webdataset"):
        raise UserError(f"data.kind is {config.kind}, but data.source '{config.source}' is tar files. Remove the key.")


def _declared_splits(config: DataConfig) -> list[str]:
    """Return the split names that the configuration sets, except the default name of the training split."""
    train = None if config.train_split == "train" else config.train_split
    return [name for name in (train, config.validation_split, config.test_split) if name is not None]


def _open_folder(folder: Path, config: DataConfig, options: TableOptions, declared: list[str]) -> Source:
    """Open a folder as what data.kind says, or according to its content."""
    if config.kind not in ("auto", "metadata") or config.metadata_file is None:
        if config.kind in ("auto", "tables") and is_saved_dataset(folder):
            reject_keys(config, "a saved dataset", "metadata_file", "leave_out", "stage_to")
            return open_saved_dataset(folder, options)
        tables = (
            find_table_files(folder, only_with_images=config.kind == "auto")
            if config.kind in ("auto", "tables")
            else []
        )
        if tables:
            reject_keys(config, "a folder of tables", "metadata_file", "leave_out")
            check_one_data_set(group_by_split(tables, folder, declared=declared))
            return open_table_files(tables, folder, options, title=f"the tables in {folder}", declared=declared)
        if config.kind == "tables":
            raise UserError(f"data.kind is tables, but {folder} has no {' or '.join(TABLE_EXTENSIONS)} files.")
        shards = find_shards(folder) if config.kind in ("auto", "webdataset") else []
        if shards and (config.kind == "webdataset" or have_labels(shards, options.label_column)):
            reject_keys(config, "a folder of tar shards", "metadata_file", "leave_out")
            return open_shards(shards, folder, options, title=f"the shards in {folder}", declared=declared)
        if config.kind == "webdataset":
            raise UserError(
                f"data.kind is webdataset, but {folder} has no {TAR_EXTENSION} files, or images beside them."
            )
    reject_keys(config, "a folder of image files; only tar shards and tables are copied", "stage_to")
    if config.kind not in ("auto", "metadata"):
        reject_keys(config, f"read without a list (data.kind={config.kind})", "metadata_file")
    left_out = _names_left_out(config)
    plain = FolderSource(
        folder,
        decoder=options.decoder,
        declared=declared,
        kind=config.kind,
        left_out=left_out,
        keeps_unlabeled=options.keeps_unlabeled,
    )
    if config.kind in ("auto", "metadata"):
        metadata, groups = split_groups(_metadata_files(folder, plain.root, config, left_out), config.group_column)
        source: Source = plain
        is_wanted = config.kind == "metadata" or (config.metadata_file is not None and config.group_column is None)
        if metadata and (is_wanted or not labels_of_folders(plain, metadata, config.label_column)):
            source = MetadataSource(
                folder,
                metadata,
                decoder=options.decoder,
                label_column=config.label_column,
                declared=declared,
                left_out=left_out,
                keeps_unlabeled=options.keeps_unlabeled,
            )
        if metadata and config.group_column is not None:
            return GroupedSource(source, groups_of_list(groups, config.group_column))
        if source is not plain:
            return source
    reject_keys(config, "a folder of images, which has no columns", *_COLUMN_KEYS)
    return plain


def _names_left_out(config: DataConfig) -> tuple[str, ...]:
    """Return data.leave_out without slashes at the ends, which a shell completes; raise UserError for a path."""
    names = tuple(name.rstrip("/") for name in config.leave_out)
    if path := next((name for name in names if "/" in name), None):
        raise UserError(
            f"data.leave_out: '{path}' is a path. It takes names of files and folders, wherever they lie in the source, such as"
            f" '{path.rpartition('/')[2]}'."
        )
    return names


def _metadata_files(folder: Path, root: Path, config: DataConfig, left_out: tuple[str, ...]) -> list[MetadataFile]:
    """Return the metadata files of a folder, found from `root` on; those without file names are not read."""
    if config.metadata_file is not None:
        paths = [folder / user_path(config.metadata_file, "data.metadata_file")]
        if not path_exists(paths[0]):
            raise UserError(
                f"data.metadata_file = {config.metadata_file}: {paths[0]} does not exist. Correct the path."
            )
    else:
        paths = find_metadata(root, Listing(folder, left_out))
    found = []
    for path in paths:
        file = read_metadata(path, Listing(folder, left_out), file_column=config.image_column)
        if file is not None:
            found.append(file)
            continue
        if config.kind == "metadata" or config.metadata_file is not None or config.image_column is not None:
            raise UserError(
                f"data.source: {path} has no column '{config.image_column or 'file_name'}'. Set data.image_column to that of the"
                " file names."
            )
        _log.info("data: %s has no column 'file_name' and is not read", path)
    if config.kind == "metadata" and not found:
        raise UserError(
            f"data.kind is metadata, but {folder} has no metadata.csv, .jsonl or .parquet. Set data.metadata_file."
        )
    return found


def reject_keys(config: DataConfig, kind: str, *fields: str) -> None:
    """Raise UserError for keys that are set but do not apply to this kind of source."""
    for field in fields:
        value = getattr(config, field)
        if value not in (None, (), "auto"):
            shown = ", ".join(value) if isinstance(value, tuple) else value
            raise UserError(f"data.{field} is '{shown}', but data.source '{config.source}' is {kind}. Remove the key.")
