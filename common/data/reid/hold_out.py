"""Owns the division of an identity set for a run: what is checked, which identities are held out, what trains."""

import logging
from dataclasses import replace

import numpy as np

from common.data.reid.identities import DISTRACTOR, IdentitySet, IdentitySplits, Part, Search, Sightings
from common.data.sources.split import Split
from common.data.splits.stratified import Indices
from common.data.splits.subset import Subset, draw_subset, read_subset
from common.data.splits.verification import Verify, verify_and_cache
from common.errors import UserError, some
from common.rng import generator

_log = logging.getLogger(__name__)


def divide_identities(
    whole: IdentitySet,
    *,
    validation_fraction: float,
    split_seed: int,
    fraction: float,
    images_per_class: int | None,
    subset_seed: int,
    subset_file: str | None,
    verify: Verify,
    cache_bytes: int,
    threads: int,
    max_errors: float | None,
    max_pixels: int,
) -> IdentitySplits:
    """Return the splits of an identity set: validation identities held out, reduced to the subset, verified and cached.

    The arguments are `DataConfig`'s; `validation_fraction` counts identities, `fraction` images of every identity.
    Raise UserError for a set that cannot be trained on or searched.
    """
    _check_training(whole)
    check_search(whole.test, f"the query images of {whole.title}")
    searches: dict[Part, Search] = {"test": whole.test}
    pool = np.arange(len(whole.train))
    if subset_file is not None:
        if validation_fraction:
            raise UserError(
                f"data.subset_file is '{subset_file}' and data.validation_fraction {validation_fraction:g}: a list names"
                " images, and identities are held out in whole. Set data.validation_fraction to 0."
            )
        subset = read_subset(subset_file, as_classes(whole.train))
    else:
        if validation_fraction:
            pool, searches["validation"] = hold_out_identities(whole, validation_fraction, seed=split_seed)
        subset = _choose(whole.train, pool, fraction=fraction, images_per_class=images_per_class, seed=subset_seed)
    train = as_classes(whole.train.select(subset.indices))
    _announce(whole, train, searches)
    parts = {"train": train}
    for name, search in searches.items():
        parts |= {f"{name} query": search.query.split, f"{name} gallery": search.gallery.split}
    parts = {part: replace(split, max_pixels=max_pixels) for part, split in parts.items()}
    ready, left_out = verify_and_cache(
        parts, verify=verify, cache_bytes=cache_bytes, threads=threads, max_errors=max_errors
    )
    searches = {
        name: Search(replace(query, split=ready[f"{name} query"]), replace(gallery, split=ready[f"{name} gallery"]))
        for name, (query, gallery) in searches.items()
    }
    for name, search in searches.items() if left_out else ():
        check_search(search, f"what is left of the {name} queries")
    return IdentitySplits(
        train=ready["train"],
        validation=None,
        test=None,
        class_names=train.class_names,
        subset=subset,
        searches=searches,
        left_out=left_out,
    )


def as_classes(images: Sightings) -> Split:
    """Return the images with their identities, renumbered from 0, as classes."""
    identities, labels = np.unique(images.identities, return_inverse=True)
    names = tuple(f"{identity:04d}" for identity in identities.tolist())
    return replace(images.split, labels=labels.reshape(-1).astype(np.int64), class_names=names)


def hold_out_identities(whole: IdentitySet, fraction: float, *, seed: int) -> tuple[Indices, Search]:
    """Return the training images of the identities that stay, and a search for the others.

    Of n identities, round-half-up(fraction * n) are held out, at least 2, in an order keyed by the seed. One image of each
    by each camera is searched for, the others are the gallery, as Market-1501's own test was made.
    """
    train = whole.train
    identities = np.unique(train.identities)
    count = max(2, int(np.floor(fraction * len(identities) + 0.5)))
    order = generator(seed, stream="validation identities").permutation(identities)
    held = np.flatnonzero(np.isin(train.identities, order[:count]))
    shuffled = generator(seed, stream="validation queries").permutation(held)
    assert train.split.labels is not None
    _, first = np.unique(train.split.labels[shuffled], return_index=True)
    query = np.sort(shuffled[first])
    search = Search(train.select(query), train.select(np.setdiff1d(held, query)))
    if count >= len(identities) - 1:
        raise UserError(
            f"data.validation_fraction {fraction:g} leaves {max(0, len(identities) - count)} of the {len(identities)}"
            " identities to train on. Lower it, or set it to 0."
        )
    check_search(search, f"the {count} identities that data.validation_fraction {fraction:g} holds out")
    return np.setdiff1d(np.arange(len(train)), held), search


def check_search(search: Search, title: str) -> None:
    """Raise UserError when no query has its identity in the gallery under another camera; log how many have not."""
    answerable = search.answerable()
    if not answerable.any():
        raise UserError(
            f"data.source: {title} cannot be found: none of them has its identity in the gallery under another camera, and"
            " images by the query's own camera do not count. Are the identities and cameras of the file names right?"
        )
    if not answerable.all():
        lost = np.flatnonzero(~answerable)
        names = some([search.query.split.name(index) for index in lost.tolist()], limit=3)
        _log.info("data: %d of %s have no match by another camera and do not count: %s", len(lost), title, names)


def _check_training(whole: IdentitySet) -> None:
    """Raise UserError for training images that triplets cannot be made of, or whose identities are searched for as well."""
    identities, first, counts = np.unique(whole.train.identities, return_index=True, return_counts=True)
    if len(identities) < 2:
        raise UserError(f"data.source: the training images of {whole.title} show a single identity; give several.")
    single = [whole.train.split.name(index) for index in first[counts == 1]]
    if single:
        raise UserError(
            f"data.source: {len(single)} training identities of {whole.title} have a single image, which nothing can be"
            f" pulled to: {some(single, limit=3)}. Add images of them, or remove these."
        )
    if whole.shared_numbers:
        both = np.isin(identities, np.unique(whole.test.query.identities))
        known = [whole.train.split.name(index) for index in first[both]]
        if known:
            raise UserError(
                f"data.source: {len(known)} identities of {whole.title} are trained on and searched for: {some(known, limit=3)}."
                " Remove them from the training images."
            )


def _choose(train: Sightings, pool: Indices, *, fraction: float, images_per_class: int | None, seed: int) -> Subset:
    """Draw a subset of the images in `pool`, stratified by identity; its indices are positions in `train`."""
    kept = as_classes(train.select(pool))
    assert kept.labels is not None
    drawn = draw_subset(
        kept.labels,
        fraction=None if images_per_class is not None else fraction,
        images_per_class=images_per_class,
        seed=seed,
        class_names=kept.class_names,
    )
    whole = as_classes(train)
    return replace(drawn, indices=pool[drawn.indices], num_images=len(whole), fingerprint=whole.fingerprint)


def _announce(whole: IdentitySet, train: Split, searches: dict[Part, Search]) -> None:
    """Log what each part of the data is."""
    _log.info("data: %s, %d identities to train on, %d images", whole.title, len(train.class_names), len(train))
    for name, (query, gallery) in searches.items():
        _log.info(
            "data: %s searches for %d images of %d identities among %d images by %d cameras, %d of them distractors",
            name,
            len(query),
            len(np.unique(query.identities)),
            len(gallery),
            len(np.unique(gallery.cameras)),
            int((gallery.identities == DISTRACTOR).sum()) if whole.shared_numbers else 0,
        )
