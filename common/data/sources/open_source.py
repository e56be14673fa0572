"""Open the data source of a configuration: digits, image folder, tables, saved dataset or Hub dataset."""

import glob
import os
import re
from pathlib import Path

from common.data.config import DataConfig
from common.data.images.decode import ImageDecoder
from common.data.sources.digits import DigitsSource
from common.data.sources.folders import FolderSource
from common.data.sources.source import Source
from common.data.sources.table_files import (
    TABLE_EXTENSIONS,
    find_table_files,
    has_metadata_file,
    is_saved_dataset,
    match_table_files,
    open_hub_dataset,
    open_metadata_folder,
    open_saved_dataset,
    open_table_files,
)
from common.data.sources.tables import TableOptions
from common.errors import UserError
from common.paths import user_path

_HUB_ID = r"[\w.-]+(/[\w.-]+)?"
_COLUMN_KEYS = ("image_column", "label_column")


def open_source(config: DataConfig, decoder: ImageDecoder) -> Source:
    """Return the source of `data.source`: the digits, a local path, or else a dataset of the Hugging Face Hub."""
    options = TableOptions(config.image_column, config.label_column, decoder, config.cache_megabytes * 2**20)
    declared = _declared_splits(config)
    path = user_path(config.source, "data.source")
    if glob.has_magic(config.source) and not path.exists():
        reject_keys(config, "a glob pattern", "revision", "config_name")
        files = match_table_files(str(path))
        root = Path(os.path.commonpath([file.parent for file in files]))
        return open_table_files(files, root, options, title=f"the tables {config.source}", declared=declared)
    if config.source == "digits":
        reject_keys(config, "the bundled digits", "revision", "config_name", *_COLUMN_KEYS)
        return DigitsSource(decoder=decoder)
    if path.is_file():
        reject_keys(config, "a file", "revision", "config_name")
        return _open_file(path, options)
    if path.is_dir():
        reject_keys(config, "a folder", "revision", "config_name")
        return _open_folder(path, config, options, declared)
    if not re.fullmatch(_HUB_ID, config.source) or ("/" in config.source and path.parent.is_dir()):
        raise UserError(
            f"data.source '{config.source}': no such file or folder. Set it to 'digits', a folder, a parquet file, or the"
            " id of a Hub dataset (owner/name)."
        )
    return open_hub_dataset(config.source, options, config_name=config.config_name, revision=config.revision)


def _open_file(path: Path, options: TableOptions) -> Source:
    """Open a single table."""
    if path.suffix.lower() not in TABLE_EXTENSIONS:
        raise UserError(
            f"data.source '{path}' is a file, but not a {' or '.join(TABLE_EXTENSIONS)} table. Extract an archive and set"
            " data.source to the extracted folder."
        )
    return open_table_files([path], path.parent, options, title=f"the table {path}", declared=())


def _declared_splits(config: DataConfig) -> list[str]:
    """Return the split names that the configuration sets, except the default name of the training split."""
    train = None if config.train_split == "train" else config.train_split
    return [name for name in (train, config.validation_split, config.test_split) if name is not None]


def _open_folder(folder: Path, config: DataConfig, options: TableOptions, declared: list[str]) -> Source:
    """Open a folder according to its content: saved dataset, images with a metadata file, tables, or plain images."""
    if is_saved_dataset(folder):
        return open_saved_dataset(folder, options)
    if has_metadata_file(folder):
        return open_metadata_folder(folder, options)
    tables = find_table_files(folder)
    if tables:
        return open_table_files(tables, folder, options, title=f"the tables in {folder}", declared=declared)
    reject_keys(config, "a folder of images, which has no columns", *_COLUMN_KEYS)
    return FolderSource(folder, decoder=options.decoder, declared=declared)


def reject_keys(config: DataConfig, kind: str, *fields: str) -> None:
    """Raise UserError for keys that are set but do not apply to this kind of source."""
    for field in fields:
        if getattr(config, field) is not None:
            raise UserError(
                f"data.{field} is '{getattr(config, field)}', but data.source '{config.source}' is {kind}. Remove the"
                " key."
            )
