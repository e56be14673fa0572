"""Training subset, query and gallery sets of a re-identification run, partitioned from an identity set."""

import logging
from dataclasses import dataclass, replace

import numpy as np

from common.data.config import DataConfig
from common.data.reid.hold_out import check_query_gallery, check_training, choose_identity_subset, hold_out_identities
from common.data.reid.identities import DISTRACTOR, IdentitySet, IdentitySplits, Part, QueryGallery
from common.data.sources.split import Split
from common.data.splits.subset import Subset, read_subset
from common.data.splits.verification import VerifiedSplits
from common.errors import UserError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class IdentityPartition:
    """The training subset and the query and gallery sets of an identity set, before verification."""

    train: Split
    """Images of `subset`, with identities as classes."""
    subset: Subset
    query_gallery: dict[Part, QueryGallery]

    def parts(self) -> dict[str, Split]:
        """Return all splits by the names under which they are verified and reported."""
        parts = {"train": self.train}
        for part, (query, gallery) in self.query_gallery.items():
            parts |= {f"{part} query": query.split, f"{part} gallery": gallery.split}
        return parts

    def splits(self, verified: VerifiedSplits) -> IdentitySplits:
        """Return the splits for a run from the verified `parts`; raise UserError if no query with a match is left."""
        splits, excluded = verified
        query_gallery = {
            part: QueryGallery(
                replace(query, split=splits[f"{part} query"]), replace(gallery, split=splits[f"{part} gallery"])
            )
            for part, (query, gallery) in self.query_gallery.items()
        }
        if excluded:
            for part, sets in query_gallery.items():
                check_query_gallery(sets, f"the {part} queries that are not corrupt")
        return IdentitySplits(
            train=splits["train"],
            validation=None,
            test=None,
            class_names=self.train.class_names,
            subset=self.subset,
            query_gallery=query_gallery,
            excluded=excluded,
        )


def partition_identities(identity_set: IdentitySet, config: DataConfig) -> IdentityPartition:
    """Hold out validation identities and draw the training subset; log the result.

    `data.validation_fraction` is a fraction of the identities, `data.fraction` of the images of every identity. Raise UserError for
    a data set that cannot be used for training or retrieval.
    """
    check_training(identity_set)
    check_query_gallery(identity_set.test, f"the query images of {identity_set.title}")
    query_gallery: dict[Part, QueryGallery] = {"test": identity_set.test}
    pool = np.arange(len(identity_set.train))
    if config.subset_file is not None:
        if config.validation_fraction:
            raise UserError(
                f"data.subset_file is '{config.subset_file}' and data.validation_fraction {config.validation_fraction:g}: a subset"
                " file selects images, but hold-outs are complete identities. Set data.validation_fraction to 0."
            )
        subset = read_subset(config.subset_file, identity_set.train.as_classes())
    else:
        if config.validation_fraction:
            pool, query_gallery["validation"] = hold_out_identities(
                identity_set, config.validation_fraction, seed=config.split_seed
            )
        subset = choose_identity_subset(
            identity_set.train,
            pool,
            fraction=config.fraction,
            images_per_class=config.images_per_class,
            seed=config.subset_seed,
        )
    train = identity_set.train.select(subset.indices).as_classes()
    _log_partition(identity_set, train, query_gallery)
    return IdentityPartition(train=train, subset=subset, query_gallery=query_gallery)


def _log_partition(identity_set: IdentitySet, train: Split, query_gallery: dict[Part, QueryGallery]) -> None:
    """Log the size of each part of the data."""
    _log.info(
        "data: %s, %d training identities, %d training images", identity_set.title, len(train.class_names), len(train)
    )
    for part, (query, gallery) in query_gallery.items():
        _log.info(
            "data: %s: %d queries of %d identities, %d gallery images by %d cameras, %d of them distractors",
            part,
            len(query),
            len(np.unique(query.identities)),
            len(gallery),
            len(np.unique(gallery.cameras)),
            int((gallery.identities == DISTRACTOR).sum()) if identity_set.shared_ids else 0,
        )
