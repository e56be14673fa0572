"""Owns the one function that turns the configuration of the data into splits for training and evaluation."""

import glob
import logging
import os
import re
from dataclasses import replace
from pathlib import Path

from common.data import digit_identities
from common.data.config import DataConfig
from common.data.digits import DigitsSource
from common.data.folders import FolderSource
from common.data.identities import IdentitySet
from common.data.identity_layouts import find_layout, read_layout
from common.data.identity_splits import divide_identities
from common.data.open_tables import (
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
from common.data.split import Split
from common.data.splits import (
    Division,
    HoldOuts,
    Source,
    Splits,
    assign_roles,
    check_training_split,
    choose_subset,
    divide,
)
from common.data.subset import Subset, read_subset
from common.data.verification import verify_and_cache
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
        _refuse(config, "a pattern of files", "revision", "config_name")
        files = match_table_files(str(path))
        root = Path(os.path.commonpath([file.parent for file in files]))
        return open_table_files(files, root, title=f"the tables {config.source}", declared=declared, **columns)
    if config.source == "digits":
        _refuse(config, "the embedded digits", "revision", "config_name", *columns)
        return DigitsSource()
    if path.is_file():
        _refuse(config, "a file", "revision", "config_name")
        return _open_file(path, columns)
    if path.is_dir():
        _refuse(config, "a folder", "revision", "config_name")
        return _open_folder(path, config, columns, declared)
    if not re.fullmatch(_HUB_ID, config.source) or ("/" in config.source and path.parent.is_dir()):
        raise UserError(
            f"data.source '{config.source}': there is no such file or folder. Name 'digits', a folder, a parquet file,"
            " or the id of a hub data set (owner/name)."
        )
    return open_hub_dataset(config.source, config_name=config.config_name, revision=config.revision, **columns)


def open_identities(config: DataConfig) -> IdentitySet | None:
    """Return the set for re-identification that `config` names; none where it names images of classes."""
    path = user_path(config.source, "data.source")
    embedded = config.source == digit_identities.SOURCE
    layout = config.layout or (find_layout(path) if path.is_dir() and not embedded else None)
    if layout is None and not embedded:
        return None
    kind = "a set for re-identification"
    _refuse(config, kind, "revision", "config_name", "image_column", "label_column", "validation_split", "test_split")
    if config.train_split != "train":
        raise UserError(
            f"data.train_split is '{config.train_split}', but data.source '{config.source}' is {kind}. Leave the key out."
        )
    if embedded:
        _refuse(config, "embedded", "layout")
        return digit_identities.read_digit_identities()
    assert layout is not None
    if not path.is_dir():
        raise UserError(f"data.source '{config.source}' is no folder, and data.layout '{layout}' lies in one.")
    return read_layout(layout, path)


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
    _refuse(config, "a folder of images, which has no columns", *columns)
    return FolderSource(folder, declared=declared)


def _refuse(config: DataConfig, kind: str, *fields: str) -> None:
    """Raise UserError for fields that are set but mean nothing for this kind of source."""
    for field in fields:
        if getattr(config, field) is not None:
            raise UserError(
                f"data.{field} is '{getattr(config, field)}', but data.source '{config.source}' is {kind}. Leave the"
                " key out."
            )


def open_splits(config: DataConfig, *, labelled: bool) -> Splits:
    """Return the splits of `config`'s source: divided without overlap, reduced to the subset, verified and cached.

    `labelled` demands labels; without it they come where the source has them. Raise UserError for everything that is
    wrong with the source, before any training.
    """
    if (identity_set := open_identities(config)) is not None:
        return divide_identities(
            identity_set,
            validation_fraction=config.validation_fraction,
            split_seed=config.split_seed,
            fraction=config.fraction,
            images_per_class=config.images_per_class,
            subset_seed=config.subset_seed,
            subset_file=config.subset_file,
            verify=config.verify,
            cache_bytes=config.cache_megabytes * 2**20,
            threads=max(1, config.workers),
            max_errors=config.max_errors if config.on_error == "skip" else None,
            max_pixels=config.max_megapixels * 10**6,
        )
    source = open_source(config)
    roles = assign_roles(source, train=config.train_split, validation=config.validation_split, test=config.test_split)
    whole = source.read(roles.train, labelled=labelled)
    check_training_split(whole, title=source.title, labelled=labelled)
    listed = read_subset(config.subset_file, whole) if config.subset_file is not None else None
    division = divide(
        source,
        whole,
        roles,
        fractions=HoldOuts(validation=config.validation_fraction, test=config.test_fraction),
        seed=config.split_seed,
        kept=None if listed is None else listed.indices,
        labelled=labelled,
    )
    subset = listed or choose_subset(
        whole,
        division.pool,
        fraction=config.fraction,
        images_per_class=config.images_per_class,
        seed=config.subset_seed,
    )
    _announce(source, whole, subset, division)
    parts = {"train": whole.select(subset.indices), "validation": division.validation, "test": division.test}
    max_pixels = config.max_megapixels * 10**6
    ready, left_out = verify_and_cache(
        {part: replace(split, max_pixels=max_pixels) for part, split in parts.items() if split is not None},
        verify=config.verify,
        cache_bytes=config.cache_megabytes * 2**20,
        threads=max(1, config.workers),
        max_errors=config.max_errors if config.on_error == "skip" else None,
    )
    return Splits(
        train=ready["train"],
        validation=ready.get("validation"),
        test=ready.get("test"),
        class_names=whole.class_names,
        subset=subset,
        left_out=left_out,
    )


def _announce(source: Source, whole: Split, subset: Subset, division: Division) -> None:
    """Log what each part of the data is and where it came from."""
    classes = f"{len(whole.class_names)} classes" if whole.labels is not None else "no labels"
    _log.info("data: %s, %s", source.title, classes)
    _log.info("data: train is %d of the %d images of the split '%s'", len(subset), len(whole), division.roles.train)
    for part, split, origin in (
        ("validation", division.validation, division.validation_origin),
        ("test", division.test, division.test_origin),
    ):
        _log.info("data: %s is %s: %s", part, "absent" if split is None else f"{len(split)} images", origin)
