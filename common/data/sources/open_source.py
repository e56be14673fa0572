"""Open the source that a recipe names: the digits, a folder, tables, or a data set of the hub."""

import glob
import logging
import os
import re
from pathlib import Path

from common.data.config import DataConfig
from common.data.sources.digits import DigitsSource
from common.data.sources.folders import FolderSource
from common.data.sources.source import Source
from common.data.sources.table_files import (
    TABLE_EXTENSIONS,
    find_table_files,
    is_described,
    is_saved_dataset,
    match_table_files,
    open_described_folder,
    open_hub_dataset,
    open_saved_dataset,
    open_table_files,
)
from common.errors import UserError
from common.paths import user_path

_log = logging.getLogger(__name__)

_HUB_ID = r"[\w.-]+(/[\w.-]+)?"


def open_source(config: DataConfig) -> Source:
    """Return the source that `config` names: the digits, else what lies at that path, else a data set of the hub."""
    columns = {"image_column": config.image_column, "label_column": config.label_column}
    declared = _declared_splits(config)
    path = user_path(config.source, "data.source")
    if glob.has_magic(config.source) and not path.exists():
        refuse_keys(config, "a pattern of files", "revision", "config_name")
        files = match_table_files(str(path))
        root = Path(os.path.commonpath([file.parent for file in files]))
        return open_table_files(files, root, title=f"the tables {config.source}", declared=declared, **columns)
    if config.source == "digits":
        refuse_keys(config, "the embedded digits", "revision", "config_name", *columns)
        return DigitsSource()
    if path.is_file():
        refuse_keys(config, "a file", "revision", "config_name")
        return _open_file(path, columns)
    if path.is_dir():
        refuse_keys(config, "a folder", "revision", "config_name")
        return _open_folder(path, config, columns, declared)
    if not re.fullmatch(_HUB_ID, config.source) or ("/" in config.source and path.parent.is_dir()):
        raise UserError(
            f"data.source '{config.source}': there is no such file or folder. Name 'digits', a folder, a parquet file,"
            " or the id of a hub data set (owner/name)."
        )
    return open_hub_dataset(config.source, config_name=config.config_name, revision=config.revision, **columns)


def _open_file(path: Path, columns: dict[str, str | None]) -> Source:
    """Open a single table."""
    if path.suffix.lower() not in TABLE_EXTENSIONS:
        raise UserError(
            f"data.source '{path}' is a file, but no {' or '.join(TABLE_EXTENSIONS)} table. Unpack an archive and name"
            " its folder."
        )
    return open_table_files([path], path.parent, title=f"the table {path}", declared=(), **columns)


def _declared_splits(config: DataConfig) -> list[str]:
    """Return the splits that the user names, the usual name of the training split left out."""
    train = None if config.train_split == "train" else config.train_split
    return [name for name in (train, config.validation_split, config.test_split) if name is not None]


def _open_folder(folder: Path, config: DataConfig, columns: dict[str, str | None], declared: list[str]) -> Source:
    """Open a folder by what lies in it: a saved data set, tables, images with a metadata file, or plain images."""
    if is_saved_dataset(folder):
        return open_saved_dataset(folder, **columns)
    if is_described(folder):
        return open_described_folder(folder, **columns)
    tables = find_table_files(folder)
    if tables:
        return open_table_files(tables, folder, title=f"the tables in {folder}", declared=declared, **columns)
    refuse_keys(config, "a folder of images, which has no columns", *columns)
    return FolderSource(folder, declared=declared)


def refuse_keys(config: DataConfig, kind: str, *fields: str) -> None:
    """Raise UserError for fields that are set but mean nothing for this kind of source."""
    for field in fields:
        if getattr(config, field) is not None:
            raise UserError(
                f"data.{field} is '{getattr(config, field)}', but data.source '{config.source}' is {kind}. Leave the"
                " key out."
            )
