"""Checks of an identity set, the hold-out of validation identities, and the training subset."""

import logging
from dataclasses import replace

import numpy as np

from common.data.reid.identities import IdentitySet, PersonImages, QueryGallery
from common.data.splits.stratified import Indices
from common.data.splits.subset import Subset, draw_subset
from common.errors import UserError, quoted
from common.rng import generator

_log = logging.getLogger(__name__)


def hold_out_identities(identity_set: IdentitySet, fraction: float, *, seed: int) -> tuple[Indices, QueryGallery]:
    """Return the indices of the remaining training images, and a query and a gallery set of the held-out identities.

    Of n identities, round-half-up(fraction * n), but at least 2, are held out, in an order keyed by the seed. The query set has one
    image of each identity by each camera, the gallery has the others; Market-1501's test set was made the same way.
    """
    train = identity_set.train
    identities = np.unique(train.identities)
    count = max(2, int(np.floor(fraction * len(identities) + 0.5)))
    order = generator(seed, stream="validation identities").permutation(identities)
    held_out = np.flatnonzero(np.isin(train.identities, order[:count]))
    shuffled = generator(seed, stream="validation queries").permutation(held_out)
    assert train.split.labels is not None
    _, first = np.unique(train.split.labels[shuffled], return_index=True)
    query = np.sort(shuffled[first])
    query_gallery = QueryGallery(train.select(query), train.select(np.setdiff1d(held_out, query)))
    if count >= len(identities) - 1:
        raise UserError(
            f"data.validation_fraction {fraction:g} leaves {max(0, len(identities) - count)} of the {len(identities)}"
            " identities for training. Lower it, or set it to 0."
        )
    check_query_gallery(
        query_gallery, f"the queries of the {count} identities held out by data.validation_fraction {fraction:g}"
    )
    return np.setdiff1d(np.arange(len(train)), held_out), query_gallery


def check_query_gallery(query_gallery: QueryGallery, title: str) -> None:
    """Raise UserError if no query has a match by another camera in the gallery; log how many have none."""
    has_match = query_gallery.has_match()
    if not has_match.any():
        raise UserError(
            f"data.source: none of {title} has a match: its identity in the gallery under another camera. Images by the query's"
            " own camera do not count. Check the identities and cameras in the file names."
        )
    if not has_match.all():
        unmatched = np.flatnonzero(~has_match)
        names = quoted([query_gallery.query.split.name(index) for index in unmatched.tolist()], limit=3)
        _log.info("data: %d of %s have no match by another camera and are ignored: %s", len(unmatched), title, names)


def check_training(identity_set: IdentitySet) -> None:
    """Raise UserError if triplets cannot be formed from the training images, or if their identities are also queried."""
    train, title = identity_set.train, identity_set.title
    identities, first, counts = np.unique(train.identities, return_index=True, return_counts=True)
    if len(identities) < 2:
        raise UserError(f"data.source: the training images of {title} have a single identity; at least two are needed.")
    single = [train.split.name(index) for index in first[counts == 1]]
    if single:
        raise UserError(
            f"data.source: {len(single)} training identities of {title} have a single image, but a triplet needs a positive:"
            f" {quoted(single, limit=3)}. Add images of these identities, or remove them."
        )
    if identity_set.shared_ids:
        in_both = np.isin(identities, np.unique(identity_set.test.query.identities))
        names = [train.split.name(index) for index in first[in_both]]
        if names:
            raise UserError(
                f"data.source: {len(names)} identities of {title} are in both the training and the query images:"
                f" {quoted(names, limit=3)}. Remove them from the training images."
            )


def choose_identity_subset(
    train: PersonImages, pool: Indices, *, fraction: float, images_per_class: int | None, seed: int
) -> Subset:
    """Draw a subset of the images in `pool`, stratified by identity; its indices are positions in `train`."""
    available = train.select(pool).as_classes()
    assert available.labels is not None
    drawn = draw_subset(
        available.labels,
        fraction=None if images_per_class is not None else fraction,
        images_per_class=images_per_class,
        seed=seed,
        class_names=available.class_names,
    )
    full_train = train.as_classes()
    return replace(drawn, indices=pool[drawn.indices], num_images=len(full_train), fingerprint=full_train.fingerprint)
