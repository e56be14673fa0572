"""Owns the one function that turns the configuration of the data into splits for training and evaluation."""

import logging
from dataclasses import replace

from common.data.config import DataConfig
from common.data.reid.hold_out import divide_identities
from common.data.reid.open_identities import open_identities
from common.data.sources.open_source import open_source
from common.data.sources.source import Source
from common.data.sources.split import Split
from common.data.splits.roles import (
    Division,
    HoldOuts,
    Splits,
    assign_roles,
    check_training_split,
    choose_subset,
    divide,
)
from common.data.splits.subset import Subset, read_subset
from common.data.splits.verification import verify_and_cache

_log = logging.getLogger(__name__)

_HUB_ID = r"[\w.-]+(/[\w.-]+)?"


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
