"""Images without a label of partly labeled data: training images of pre-training, held out by no stage.

The hold-outs and the label subset are drawn from the labeled images alone, so both stages hold out the same images as if there were
no others.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.data.images.joined import JoinedImages
from common.data.sources.missing_labels import is_unlabeled_name
from common.data.sources.source import Source
from common.data.sources.split import UNLABELED, Split

_log = logging.getLogger(__name__)


def divide(split: Split) -> tuple[Split, Split | None]:
    """Return the labeled images of a split, and those without a label, if it is partly labeled."""
    labeled = split.labeled()
    if labeled is split or split.labels is None:
        return split, None
    rest = split.select(np.flatnonzero(split.labels == UNLABELED))
    return labeled, replace(rest, labels=None, class_names=())


def read_unlabeled(source: Source, used: Sequence[str | None], rest: Split | None) -> list[Split]:
    """Return the images without a label: `rest` of the training split, and every split called unlabeled that is not `used`."""
    names = [name for name in source.names() if name not in used and is_unlabeled_name(name)]
    found = [replace(source.read(name, labeled=False), labels=None, class_names=()) for name in names]
    return [split for split in (rest, *found) if split is not None and len(split)]


def usable(unlabeled: Sequence[Split], held_out: Sequence[Split | None]) -> list[Split]:
    """Return the images without a label that pre-training may see: none of a group (a patient) of which images are held out."""
    groups = [split.groups for split in held_out if split is not None and split.groups is not None]
    closed = np.unique(np.concatenate(groups)) if groups else np.zeros(0, np.str_)
    kept = [
        split if split.groups is None else split.select(np.flatnonzero(~np.isin(split.groups, closed)))
        for split in unlabeled
    ]
    if num_closed := sum(map(len, unlabeled)) - sum(map(len, kept)):
        _log.info("data: %d images without a label are not used: images of their groups are held out", num_closed)
    return [split for split in kept if len(split)]


def join(train: Split, unlabeled: Sequence[Split]) -> Split:
    """Return the training images followed by those without a label."""
    if not unlabeled:
        return train
    labels, groups = train.labels, train.groups
    if labels is not None:
        labels = np.concatenate([labels, np.full(sum(map(len, unlabeled)), UNLABELED)])
    if groups is not None:
        groups = np.concatenate([groups, *(split.groups for split in unlabeled if split.groups is not None)])
    images = JoinedImages([split.images for split in (train, *unlabeled)])
    return replace(train, images=images, labels=labels, groups=groups)


def log_unlabeled(num_images: int, *, labeled: bool, key: str) -> None:
    """Log what becomes of the images without a label; `key` is data.unlabeled."""
    if num_images or key == "pretrain":
        if key == "ignore":
            words = "are used by no stage (data.unlabeled=ignore)"
        elif labeled:
            words = "are left to pre-training"
        else:
            words = "are training images, too"
        _log.info("data: %d images without a label %s", num_images, words)
