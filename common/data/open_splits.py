"""Training, validation and test splits built from a `DataConfig`."""

import logging
from dataclasses import replace

from common.data.config import DataConfig, build_decoder
from common.data.reid.identities import IdentitySet
from common.data.reid.open_identities import open_identities
from common.data.reid.partition import partition_identities
from common.data.sources.missing_labels import is_unlabeled_name
from common.data.sources.open_source import open_source, reject_keys
from common.data.sources.source import Source, unused_names
from common.data.sources.split import Split
from common.data.splits.duplicates import drop_duplicates, find_duplicates
from common.data.splits.partition import (
    HoldOutFractions,
    Partition,
    check_training_split,
    choose_subset,
    partition_source,
)
from common.data.splits.roles import Splits, assign_roles
from common.data.splits.subset import Subset, read_subset
from common.data.splits.unlabeled import divide, join, log_unlabeled, read_unlabeled, usable
from common.data.splits.verification import VerifiedSplits, verify_and_cache
from common.data.worker_count import count_threads
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)


def open_splits(config: DataConfig, *, labeled: bool, source: Source | None = None, decodes: bool = True) -> Splits:
    """Open the source of `config` and return its splits: disjoint, reduced to the subset, verified and cached.

    `labeled` requires labels; otherwise they are read if the source has them. `source` is that of the configuration, if it is open
    already. `decodes=False`: nothing is verified or cached, for fingerprints and counts alone, but where corrupt images are to be
    excluded. Raise UserError for anything that is wrong with the source, before training starts.

    Images without a label beside labeled ones (data.unlabeled) are added to the training images unless labels are required, all of
    them for every label subset. Nothing else depends on them.
    """
    decoder = build_decoder(config)
    if (identity_set := open_identities(config, decoder)) is not None:
        return _identity_splits(identity_set, config, decodes=decodes)
    source = source or open_source(config, decoder)
    roles = assign_roles(source, train=config.train_split, validation=config.validation_split, test=config.test_split)
    full_train, rest = divide(source.read(roles.train, labeled=labeled))
    check_training_split(full_train, title=source.title, labeled=labeled)
    published = read_subset(config.subset_file, full_train) if config.subset_file is not None else None
    partition = partition_source(
        source,
        full_train,
        roles,
        fractions=HoldOutFractions(validation=config.validation_fraction, test=config.test_fraction),
        seed=config.split_seed,
        reserved=None if published is None else published.indices,
        labeled=labeled,
    )
    subset = published or choose_subset(
        full_train,
        partition.pool,
        fraction=config.fraction,
        images_per_class=config.images_per_class,
        seed=config.subset_seed,
    )
    _log_splits(source, full_train, subset, partition)
    unlabeled = _unlabeled_images(source, config, rest, partition, labeled=labeled)
    _warn_of_unused_names(source)
    subset = replace(subset, num_unlabeled=sum(map(len, unlabeled)))
    train = join(full_train.select(subset.indices), unlabeled)
    parts = {"train": train, "validation": partition.validation, "test": partition.test}
    verified, excluded = _verify(
        {part: split for part, split in parts.items() if split is not None}, config, decodes=decodes
    )
    splits = Splits(
        train=verified["train"],
        validation=verified.get("validation"),
        test=verified.get("test"),
        class_names=full_train.class_names,
        subset=subset,
        excluded=excluded,
        held_out=partition.held_out,
        complete={part: split for part, split in parts.items() if part in excluded and split is not None},
    )
    return drop_duplicates(splits, find_duplicates(splits, config)) if config.duplicates == "drop" else splits


def _identity_splits(identity_set: IdentitySet, config: DataConfig, *, decodes: bool) -> Splits:
    """Return the splits of a re-identification dataset, whose test images are queries and gallery."""
    reject_keys(config, "a re-identification dataset", "stage_to")
    identities = partition_identities(identity_set, config)
    if config.duplicates == "drop":
        raise UserError(
            f"data.duplicates is 'drop', but data.source '{config.source}' is a re-identification dataset, in which similar images"
            " of a person are expected. Remove the key."
        )
    return identities.splits(_verify(identities.parts(), config, decodes=decodes))


def _unlabeled_images(
    source: Source, config: DataConfig, rest: Split | None, partition: Partition, *, labeled: bool
) -> list[Split]:
    """Return the images without a label that are training images of this stage, and log how many there are for pre-training."""
    unlabeled = read_unlabeled(source, partition.roles[:3], rest) if config.unlabeled != "ignore" else []
    found = usable(unlabeled, (partition.validation, partition.test))
    num_ignored = len(rest) if rest is not None and config.unlabeled == "ignore" else 0
    log_unlabeled(sum(map(len, found)) or num_ignored, labeled=labeled, key=config.unlabeled)
    return [] if labeled else found


def _verify(parts: dict[str, Split], config: DataConfig, *, decodes: bool) -> VerifiedSplits:
    """Verify and cache the images of all parts, unless they are not to be decoded and none is to be excluded."""
    if not decodes and config.on_corrupt == "stop":
        return VerifiedSplits(parts, {})
    return verify_and_cache(
        parts,
        verify=config.verify,
        cache_bytes=config.cache_megabytes * 2**20,
        threads=count_threads(config.workers),
        max_corrupt=config.max_corrupt if config.on_corrupt == "skip" else None,
    )


def _warn_of_unused_names(source: Source) -> None:
    """Log which names of data.leave_out nothing has that was read."""
    if unused := unused_names(source):
        _log.warning(
            "data.leave_out: nothing that was read of %s is called %s. Correct or remove such names, unless they are in a split"
            " that this stage does not read",
            source.title,
            quoted(unused),
        )


def _log_splits(source: Source, full_train: Split, subset: Subset, partition: Partition) -> None:
    """Log the size and the origin of each part of the data."""
    classes = f"{len(full_train.class_names)} classes" if full_train.labels is not None else "no labels"
    _log.info("data: %s, %s", source.title, classes)
    used = (partition.roles.train, partition.roles.validation, partition.roles.test, *getattr(source, "others", ()))
    if unread := [name for name in source.names() if name not in used and not is_unlabeled_name(name)]:
        _log.info(
            "data: the splits %s of %s are not read; data.train_split and others select splits",
            quoted(unread),
            source.title,
        )
    _log.info("data: train: %d of the %d images of split '%s'", len(subset), len(full_train), partition.roles.train)
    for part, split, origin in (
        ("validation", partition.validation, partition.validation_origin),
        ("test", partition.test, partition.test_origin),
    ):
        _log.info("data: %s: %s, %s", part, "none" if split is None else f"{len(split)} images", origin)
