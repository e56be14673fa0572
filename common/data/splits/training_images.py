"""The hashes of the images that a run's weights were trained on, kept in its folder, so that later runs know them."""

import io
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from common.data.splits.content_hashes import UNREADABLE, Hashes
from common.errors import UserError
from common.files import path_exists, write_atomic
from common.paths import local_path

_log = logging.getLogger(__name__)

TRAINING_IMAGES_FILE = "training_images.npy"
"""Sorted 64-bit hashes of the content of the training images, of the run and of the runs whose weights it started from."""
MAX_SEEN = 0.01
"""Largest part of the test images that the weights may have been trained on."""


def save_training_images(hashes: Hashes | None, init: str | None, folder: Path) -> None:
    """Write the hashes of the run in `folder`, which started from `init`; nothing if there are none."""
    if hashes is None:
        return
    found = None if init is None else read_training_images(init)
    every = np.union1d(hashes, hashes if found is None else found)
    buffer = io.BytesIO()
    np.save(buffer, every[every != UNREADABLE], allow_pickle=False)
    write_atomic(folder / TRAINING_IMAGES_FILE, buffer.getvalue())


def read_training_images(init: str) -> Hashes | None:
    """Return the sorted hashes of the images that the weights `init` were trained on; None if they are not known.

    `init` is the recipe's key: the folder of a run, its `export`, a checkpoint of it, a file in one of them, a link to one, each
    also after `local-dir:`. Names of weights of others have none.
    """
    try:
        folder = _run_folder(init)
        path = None if folder is None else folder / TRAINING_IMAGES_FILE
        found = np.load(path, allow_pickle=False) if path is not None and path_exists(path) else None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"init: {TRAINING_IMAGES_FILE} of {init} cannot be read ({error}). It lists what the weights were trained on. Restore"
            " it, or remove it if it is not known."
        ) from error
    return None if found is None else found.astype(np.uint64)


def _run_folder(init: str) -> Path | None:
    """Return the folder of the run that wrote `init`, if a run did; None if that is no path."""
    path = local_path(init)
    if not path_exists(path):
        return None
    path = path.resolve()
    folder = path if path.is_dir() else path.parent
    if folder.parent.name == "checkpoints":
        return folder.parent.parent
    return folder.parent if folder.name == "export" else folder


def count_overlap(init: str, parts: Mapping[str, Hashes]) -> dict[str, int] | None:
    """Return how many images of each part the weights `init` were trained on; None if that is not known."""
    known = read_training_images(init)
    if known is None:
        return None
    return {part: int(np.isin(hashes[hashes != UNREADABLE], known).sum()) for part, hashes in parts.items()}


def check_overlap(init: str | None, hashes: Mapping[str, Hashes], *, refuses: bool = False) -> dict[str, int] | None:
    """Return, and log, how many validation and test images the weights `init` were trained on; None if that is not known.

    `refuses`: raise UserError if that is more than one percent of the test images, apart from those whose content is also among
    the run's own training images: those are duplicates within the data set, not another hold-out.
    """
    if init is None or not hashes:
        return None
    evaluated = {part: values for part, values in hashes.items() if part != "train"}
    overlap = count_overlap(init, evaluated)
    if overlap is None:
        _log.info("init = %s: the images that these weights were trained on are not known", init)
    if refuses and overlap is not None and "test" in evaluated:
        test = evaluated["test"]
        seen = count_overlap(init, {"test": test[~np.isin(test, hashes.get("train", test[:0]))]}) or {"test": 0}
        if seen["test"] > MAX_SEEN * len(test):
            raise UserError(
                f"init = {init}: these weights were trained on {seen['test']} of the {len(test)} test images (same content), so"
                " the test would measure nothing new. Pre-train with the same section data, so that both stages hold out the"
                " same images, or set data.init_overlap=allow, which result.json reports."
            )
    for part, number in (overlap or {}).items():
        if number:
            _log.warning(
                "init = %s: these weights were trained on %d of the %d %s images (same content), so metrics on them are too good."
                " Pre-train with the same data section, so that both stages hold out the same images.",
                init,
                number,
                len(evaluated[part]),
                part,
            )
    return overlap
