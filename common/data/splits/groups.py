"""Hold-outs of groups: all images of a patient, a site or a camera are in one part of the data.

Shapes: N images of a pool, G groups, C classes.
"""

import logging
from collections.abc import Mapping

import numpy as np

from common.data.sources.split import Split
from common.data.splits.stratified import Indices
from common.errors import UserError, quoted
from common.rng import generator

_log = logging.getLogger(__name__)

_MISFIT = 0.5
"""Largest difference between the wanted and the actual fraction, relative to the wanted one, without a warning."""
_KEYS = "data.group_column or data.group_pattern"


def hold_out_groups(
    split: Split, pool: Indices, fraction: float, *, seed: int, stream: str, reserved: Indices
) -> Indices:
    """Return the sorted indices in `split` of all images in `pool` of a sample of groups, stratified by class as far as possible.

    The groups come in an order that depends on the seed, the stream and their names. Each is held out that brings the held-out
    fractions of the classes closer to `fraction` (sum of squares), unless it is the last one of a class or has an image in
    `reserved` (a published subset); if none does, the one that leads away least.
    """
    assert split.groups is not None
    labels = np.zeros(len(pool), np.int64) if split.labels is None else split.labels[pool]
    names, codes = np.unique(split.groups[pool], return_inverse=True)
    is_reserved = np.zeros(len(split), dtype=bool)
    is_reserved[reserved] = True
    is_closed = np.zeros(len(names), dtype=bool)
    is_closed[codes[is_reserved[pool]]] = True
    order = generator(seed, stream=stream).permutation(len(names))
    chosen = _choose(codes, labels, fraction, order[~is_closed[order]])
    held_out = np.sort(pool[np.isin(codes, chosen)])
    _report(split, pool, held_out, len(chosen), len(names), fraction, stream)
    return held_out


def _choose(codes_N: Indices, labels_N: Indices, fraction: float, order: Indices) -> list[int]:
    """Return the groups of `order` that are held out."""
    totals = np.bincount(labels_N)
    held_out = np.zeros(len(totals), dtype=np.int64)
    rows = np.argsort(codes_N, kind="stable")
    ends = np.cumsum(np.bincount(codes_N))
    chosen: list[int] = []
    best: tuple[float, int] | None = None
    for group in order.tolist():
        own = labels_N[rows[ends[group - 1] if group else 0 : ends[group]]]
        classes, counts = np.unique(own, return_counts=True)
        before, after = held_out[classes], held_out[classes] + counts
        if (after >= totals[classes]).any():
            continue  # training would lose a class
        misfit_before, misfit_after = (
            float(((count / totals[classes] - fraction) ** 2).sum()) for count in (before, after)
        )
        if misfit_after < misfit_before:
            chosen.append(group)
            held_out[classes] = after
        elif not chosen and (best is None or misfit_after - misfit_before < best[0]):
            best = misfit_after - misfit_before, group
    return chosen or ([] if best is None else [best[1]])


def _report(
    split: Split, pool: Indices, held_out: Indices, num_chosen: int, num_groups: int, fraction: float, stream: str
) -> None:
    """Log how many groups are held out; warn of a fraction far from the wanted one, and of classes without an image."""
    part = stream.partition(" ")[0]
    _log.info("data: %s: %d of %d groups are held out", part, num_chosen, num_groups)
    actual = len(held_out) / len(pool)
    if len(held_out) and abs(actual - fraction) > _MISFIT * fraction:
        _log.warning(
            "data.%s_fraction is %g, but the groups held out have %.2g of the images: groups are not divided",
            part,
            fraction,
            actual,
        )
    if split.labels is not None and len(held_out):
        absent = np.setdiff1d(split.labels[pool], split.labels[held_out])
        if len(absent):
            _log.warning(
                "data: %d classes have no %s image, since all of their images are of too few groups: %s",
                len(absent),
                part,
                quoted([split.class_names[label] for label in absent.tolist()]),
            )


def nothing_held_out(split: Split, pool: Indices, fraction: float, *, part: str, train: str) -> UserError:
    """Return the error of a hold-out without a group."""
    assert split.groups is not None
    names = np.unique(split.groups[pool])
    reason = (
        f"they are all of the group {quoted(names.tolist())}"
        if len(names) == 1
        else f"each of their {len(names)} groups is the last one of a class, or has images that data.subset_file selects"
    )
    return UserError(
        f"data.{part}_fraction {fraction:g} holds out none of the {len(pool)} images of '{train}': {reason}. Check {_KEYS}, set"
        f" data.{part}_split, or set the fraction to 0."
    )


def check_groups(parts: Mapping[str, Split | None]) -> None:
    """Raise UserError if images of a group are in two parts."""
    used = [(part, split.groups) for part, split in parts.items() if split is not None and split.groups is not None]
    names = [(part, np.unique(groups)) for part, groups in used]
    for number, (part, groups) in enumerate(names):
        for other, others in names[number + 1 :]:
            shared = np.intersect1d(groups, others)
            if len(shared):
                raise UserError(
                    f"{_KEYS}: {len(shared)} groups have images in both {part} and {other}: {quoted(shared.tolist())}. The splits"
                    " of the source divide them. Correct the groups or move the images, or remove the key to use the splits as"
                    " they are."
                )
