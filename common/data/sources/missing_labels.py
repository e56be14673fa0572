"""Images without a label: names of the folders and splits that hold them, and what a missing label in a column means."""

import logging
import re
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from common.data.sources.split import UNLABELED
from common.data.sources.split_names import FILLERS, TRAIN_NAMES, words_of
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)

_UNLABELED = re.compile(r"(un|no|non|not|without)(label(l?ed|s)?|annotat(ed|ions?))|unsup(ervised)?")
_LABELED = re.compile(r"(with)?(label(l?ed|s)|annotated)|sup(ervised)?")
REMEDY = "set data.unlabeled=pretrain to use them in pre-training only"
"""The key that makes images without a label training images of the first stage."""


def is_unlabeled_name(name: str) -> bool:
    """Return whether a folder or split is called unlabeled, such as `no_label`, `unsup`, `Unlabelled images`, `train_unlabeled`.

    `test_unlabeled` is not: images of a test split are no training images. Nor is `unlabeled_cells`, which is a class.
    """
    return _UNLABELED.fullmatch(_joined(name)) is not None


def holds_labeled(name: str) -> bool:
    """Return whether a folder beside an unlabeled one only holds the labeled data: `labeled`, `Labeled images`, `data`."""
    joined = _joined(name)
    return (not joined and bool(words_of(name))) or _LABELED.fullmatch(joined) is not None


def unlabeled_among(folders: Sequence[str], declared: Sequence[str] = ()) -> list[str]:
    """Return the folders that are called unlabeled, beside others that are not; none that the configuration declares as a split."""
    found = [name for name in folders if name not in declared and is_unlabeled_name(name)]
    return found if len(found) < len(folders) else []


def _joined(name: str) -> str:
    """Return the lower-case words of a name, without fillers and words for training, as one: `No_Label images` is `nolabel`."""
    return "".join(word for word in words_of(name) if word not in FILLERS and word not in TRAIN_NAMES)


def are_labels_used(
    labels: npt.NDArray[np.int64],
    *,
    labeled: bool,
    keeps_unlabeled: bool,
    column: str,
    title: str,
    name_of: Callable[[int], str],
) -> bool:
    """Return whether the labels of a column are used: if all images have one, or if the unlabeled ones are kept (data.unlabeled).

    Otherwise raise UserError that names the first image without a label if `labeled`, and log that none are read if not.
    """
    missing = np.flatnonzero(labels == UNLABELED)
    if not len(missing) or (keeps_unlabeled and len(missing) < len(labels)):
        return True
    if labeled:
        raise UserError(
            f"data.label_column: {len(missing)} of {len(labels)} images of {title} have no label in the column '{column}'; the"
            f" first is {name_of(int(missing[0]))}. A missing, negative or blank value is no label. Add the labels, remove the"
            f" rows, select another split or column, or {REMEDY}."
        )
    if len(missing) == len(labels):
        _log.info("data: %s has no labels: the column '%s' holds none", title, column)
    else:
        _log.warning(
            "data: %s has no label for %d of %d images in the column '%s'. No labels are read, and the hold-outs differ"
            " from those of a run with labels; add the labels, or set data.unlabeled=pretrain in the runs of both stages",
            title,
            len(missing),
            len(labels),
            column,
        )
    return False


def log_unlabeled_folders(folders: Sequence[str], num_images: int, title: str) -> None:
    """Log that folders beside class folders are no classes."""
    _log.info(
        "data: %s of %s: no class; the %d images without a label are for pre-training only (data.kind=class_folders makes it a"
        " class)",
        quoted(folders),
        title,
        num_images,
    )
