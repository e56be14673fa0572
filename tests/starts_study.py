"""A synthetic study of four starts: from scratch, own pre-training, public weights, and pre-training continued from them."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comparison_studies import SCATTER, TITLES, Values, comparison_mapping, write_comparison

from recipes.reports.results import StudyRecord
from recipes.study.study_file import build_study

WEIGHTS = "timm:vit_tiny_patch16_224"
STARTS = comparison_mapping(
    fractions=(0.1, 1.0), titles={**TITLES, "public": "public weights", "continued": "continued pre-training"}
)
STARTS |= {
    "name": "starts",
    "without": [{"training": "public", "stem": "conv"}, {"training": "continued", "stem": "conv"}],
    "stages": {
        "pretrain": {"recipe": "pretrain.yaml"},
        "continue": {"module": "pretrain", "recipe": "continue.yaml", "set": {"init": WEIGHTS, "model.name": "init"}},
        "finetune": {"recipe": "finetune.yaml"},
    },
}
STARTS["axes"]["training"]["levels"] |= {
    "public": {"finetune.init": WEIGHTS, "finetune.model.name": "init"},
    "continued": {"set": {"finetune.model.name": "init"}, "starts_from": {"finetune": "continue"}},
}
"""The study file, without `report.starts`."""


def starts_mapping(*, with_report: bool = False, **changes: Any) -> dict[str, Any]:
    """Return a copy of `STARTS` with some sections changed; with `report.starts` if `with_report`."""
    mapping = copy.deepcopy(STARTS) | changes
    if with_report:
        mapping["report"] |= {"starts": ["public", "continued"]}
    return mapping


def accuracy(levels: Mapping[str, str]) -> float:
    """Return the accuracy of a run: best are the public weights, then two-stage training with the conv stem."""
    start = {"OST": 0.0, "TST": 3.0, "public": 12.0, "continued": 12.1}[levels["training"]]
    return 80 + start + (levels["stem"] == "conv") + 2 * (levels["fraction"] == "1") + SCATTER[levels["seed"]]


def write_starts(
    folder: Path, *, with_report: bool = False, values: Values = accuracy, images: int = 0, **changes: Any
) -> StudyRecord:
    """Write the folder of the study with every run, and return the record that a report reads."""
    study = build_study(starts_mapping(with_report=with_report, **changes), "starts.yaml")
    return write_comparison(study, folder, values, images=images)
