"""One report is about one data set: runs of a study whose test images differ are not put into one table."""

from typing import Any

import yaml

from common.data.splits.fingerprint import DATA_FILE, read_fingerprint
from common.errors import UserError
from common.files import path_exists
from common.yaml_text import read_dumped, reason_of
from recipes.reports.results import RunRecord, StudyRecord

_PARTS = (
    "source",
    "kind",
    "metadata_file",
    "leave_out",
    "layout",
    "revision",
    "config_name",
    "train_split",
    "validation_split",
    "test_split",
    "image_column",
    "label_column",
    "unlabeled",
    "test_fraction",
    "split_seed",
    "group_column",
    "group_pattern",
    "subset_file",
    "on_corrupt",
)
"""Keys of the section `data` that tell which images are for testing, and with which labels. Images in `subset_file` are not."""


def check_same_images(study: StudyRecord) -> None:
    """Raise UserError if runs of the reported stage were tested on other images than others, although their recipes agree."""
    first: dict[tuple[str, ...], tuple[RunRecord, Any]] = {}
    for run in study.of_stage(study.last_stage):
        saved = read_fingerprint(run.folder / DATA_FILE) if run.result else None
        if saved is None:
            continue
        other, tested = first.setdefault(_source(run), (run, saved.get("test")))
        if saved.get("test") != tested:
            raise UserError(
                f"the runs {other.planned.id} and {run.planned.id} in {study.folder} were tested on different images or labels"
                " of the same data.source: they are not of one data set. Delete the folders of the runs of one of them, and run"
                " the study again."
            )


def _source(run: RunRecord) -> tuple[str, ...]:
    """Return what the run's recipe says about its test images."""
    path = run.folder / "config.yaml"
    try:
        content = read_dumped(path.read_text(encoding="utf-8")) if path_exists(path) else None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: not the recipe of a run ({reason_of(error)}). Delete this file: the report does without it."
        ) from error
    data = content.get("data") if isinstance(content, dict) else None
    return tuple(str(data.get(key)) for key in _PARTS) if isinstance(data, dict) else ()
