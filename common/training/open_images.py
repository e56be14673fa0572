"""The inputs of a run (images, initial weights, token labels): compared with those it began with, and recorded."""

import hashlib
from typing import TYPE_CHECKING, Any

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.data.splits.content_hashes import Hashes
from common.data.splits.duplicates import find_duplicates
from common.data.splits.fingerprint import check_data, has_checkpoints, save_data, saved_facts
from common.data.splits.roles import Splits
from common.data.splits.training_images import check_overlap, save_training_images
from common.errors import UserError
from common.interruption import interruptible
from common.json_text import to_json
from common.training.inputs import Inputs, check_inputs, describe_inputs, save_inputs
from common.training.normalization import find_normalization

if TYPE_CHECKING:
    from common.training.run import Run

UNLABELED_STAGES = ("pretrain", "tokens")
"""Stages that need no labels, so that images without a label are training images, too."""
SAME_INPUTS = "{} must lead to the same files on every node"


def open_images(
    config: DataConfig, run: "Run", *, labeled: bool, init: str | None = None, frozen: str | None = None
) -> Splits:
    """Return the images of a run, with labels if `labeled`; raise UserError if its inputs are not those it began with.

    Duplicates between its parts, and images that the weights `init` were trained on, are logged and recorded. So is the
    normalization, if it is measured: that of `init`, or of the weights `frozen` of an evaluation, which trains none. A stop signal
    ends all this after a while: decoding and comparing many images can take hours.
    """
    with interruptible():
        return _open_images(config, run, labeled=labeled, init=init, weights=init or frozen)


def _open_images(config: DataConfig, run: "Run", *, labeled: bool, init: str | None, weights: str | None) -> Splits:
    """Do what `open_images` says."""
    resumes = run.process_group.read(lambda: has_checkpoints(run.folder)) or run.files.has_shards
    inputs = _check_inputs(run, resumes=resumes)
    splits = run.process_group.read(lambda: open_splits(config, labeled=labeled))
    _check_processes(splits, run.num_processes)
    data = _check_data(run, splits, resumes=resumes)
    hashes = _record_duplicates(config, run, splits, init, resumes=resumes, labeled=labeled)
    run.data_facts |= _find_normalization(config, run, splits, weights, resumes=resumes)
    data |= run.data_facts
    run.write_once_accepted(run.folder, lambda: save_data(data, splits, run.folder, resumes=resumes))
    run.write_once_accepted(run.folder, lambda: save_inputs(inputs, run.folder))
    run.write_once_accepted(run.folder, lambda: save_training_images(hashes, init, run.folder))
    return splits


def _check_processes(splits: Splits, num_processes: int) -> None:
    """Raise UserError if a part that is evaluated has fewer images than there are processes."""
    for name, part in (("validation", splits.validation), ("test", splits.test)):
        if part is not None and len(part) < num_processes:
            raise UserError(
                f"data.source: {len(part)} {name} images are too few for {num_processes} processes. Use fewer processes."
            )


def _record_duplicates(
    config: DataConfig, run: "Run", splits: Splits, init: str | None, *, resumes: bool, labeled: bool
) -> Hashes | None:
    """Find, log and record the duplicates, unless a run that resumes has recorded them; return the training images' hashes."""
    group = run.process_group
    saved = group.read(lambda: saved_facts(run.folder, duplicates=config.duplicates) if resumes else {})
    group.check_same([_digest(saved)], what="records of duplicates", remedy=SAME_INPUTS.format("out"))
    if saved:
        run.data_facts |= saved
        return None
    duplicates = splits.duplicates or group.read(lambda: find_duplicates(splits, config))
    duplicates.log()
    refuses = config.init_overlap == "refuse" and labeled
    overlap = group.read(lambda: check_overlap(init, duplicates.hashes, refuses=refuses))
    run.data_facts |= {"duplicates": duplicates.summary(), "init_overlap": overlap}
    return duplicates.hashes.get("train")


def _find_normalization(
    config: DataConfig, run: "Run", splits: Splits, weights: str | None, *, resumes: bool
) -> dict[str, Any]:
    """Return the record of a normalization that is measured, the same in all processes."""
    group = run.process_group
    found = group.read(lambda: find_normalization(config, splits, weights, run.folder, resumes=resumes))
    group.check_same([_digest(found)], what="mean and std", remedy=SAME_INPUTS.format("data.source"))
    return found


def confirm_moved(run: "Run") -> None:
    """Raise UserError if the keys that name other paths than before (`RunFolder.moved`) do not lead to the same content."""
    if any(key.startswith("data.") for key in run.files.moved):
        splits = run.process_group.read(lambda: open_splits(run.config.data, labeled=False, decodes=False))
        _check_data(run, splits if run.stage in UNLABELED_STAGES else splits.without_unlabeled(), resumes=False)
    _check_inputs(run, resumes=False)


def _check_data(run: "Run", splits: Splits, *, resumes: bool) -> dict[str, Any]:
    """Return the fingerprint of the images, the same in all processes, once it has been compared with the saved one."""
    group = run.process_group
    data = group.read(lambda: check_data(splits, run.folder, resumes=resumes, moved=run.files.moved))
    group.check_same([_digest(data)], what="images", remedy=SAME_INPUTS.format("data.source"))
    return data


def _check_inputs(run: "Run", *, resumes: bool) -> Inputs:
    """Return the other inputs, the same in all processes, once they have been compared with the saved ones."""
    group = run.process_group
    inputs = group.read(lambda: describe_inputs(run.config, stage=run.stage))
    for key in ("init", "token_labels.labels"):
        group.check_same([_digest(inputs.get(key))], what=f"files of {key}", remedy=SAME_INPUTS.format(key))
    group.read(lambda: check_inputs(inputs, run.files, resumes=resumes))
    return inputs


def _digest(content: Any) -> str:
    """Return a short hash of JSON content."""
    return hashlib.sha256(to_json(content, sort_keys=True).encode()).hexdigest()[:8]
