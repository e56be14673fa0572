"""The images of a training run: opened, compared with those it began with, and recorded."""

import logging
from pathlib import Path
from typing import Any

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.splits.duplicates import Duplicates, find_duplicates
from common.data.splits.fingerprint import check_data, save_data, saved_facts
from common.data.splits.roles import Splits
from common.data.splits.training_images import count_overlap, save_training_images
from common.training.run import Run

_log = logging.getLogger(__name__)


def open_images(config: DataConfig, run: Run, *, labeled: bool, init: str | None = None) -> Splits:
    """Return the images of a run, with labels if `labeled`; raise UserError if they are not those it began with.

    Duplicates between its parts, and images that the weights `init` were trained on, are logged and recorded.
    """
    splits = open_splits(config, labeled=labeled)
    data = run.process_group.read(lambda: check_data(splits, run.folder))
    saved = run.process_group.read(
        lambda: saved_facts(run.folder, duplicates=config.duplicates),
        describe=lambda facts: ", ".join(facts) or "nothing",
    )
    if saved:
        run.data_facts |= saved
        return splits
    duplicates = splits.duplicates or find_duplicates(splits, config)
    duplicates.log()
    overlap = run.process_group.read(lambda: _check_init(init, duplicates))
    run.data_facts |= {"duplicates": duplicates.summary(), "init_overlap": overlap}
    run.write_once_accepted(run.folder, lambda: _save(data | run.data_facts, splits, duplicates, init, run.folder))
    return splits


def _save(data: dict[str, Any], splits: Splits, duplicates: Duplicates, init: str | None, folder: Path) -> None:
    """Write the data's fingerprint, and the hashes of the training images if they are known."""
    save_data(data, splits, folder)
    if duplicates.hashes:
        save_training_images(duplicates.hashes["train"], init, folder)


def _check_init(init: str | None, duplicates: Duplicates) -> dict[str, int] | None:
    """Return, and log, how many validation and test images the weights `init` were trained on; None if that is not known."""
    if init is None:
        return None
    if not duplicates.hashes:
        return None
    evaluated = {part: hashes for part, hashes in duplicates.hashes.items() if part != "train"}
    overlap = count_overlap(init, evaluated)
    if overlap is None:
        _log.info("init = %s: the images that these weights were trained on are not known", init)
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
