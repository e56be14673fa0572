"""A synthetic study of four starts: from scratch, own pre-training, public weights, and pre-training continued from them."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comparison_studies import SCATTER, Values, write_comparison

from recipes.reports.results import StudyRecord
from recipes.study.study_file import build_study

WEIGHTS = "timm:vit_tiny_patch16_224"
STARTS: dict[str, Any] = {
    "name": "starts",
    "question": "Which start suits these images?",
    "stages": {
        "pretrain": {"recipe": "pretrain.yaml"},
        "continue": {"module": "pretrain", "recipe": "continue.yaml", "set": {"init": WEIGHTS, "model.name": "init"}},
        "finetune": {"recipe": "finetune.yaml"},
    },
    "axes": {
        "stem": {"levels": {"patchify": {"model.stem": "patchify"}, "conv": {"model.stem": "conv"}}},
        "training": {
            "levels": {
                "OST": {},
                "TST": {"starts_from": {"finetune": "pretrain"}},
                "public": {"finetune.init": WEIGHTS, "finetune.model.name": "init"},
                "continued": {"set": {"finetune.model.name": "init"}, "starts_from": {"finetune": "continue"}},
            }
        },
        "fraction": {"key": "finetune.data.fraction", "values": [0.1, 1.0]},
        "seed": {"key": ["train.seed", "finetune.data.subset_seed"], "values": [0, 1, 2]},
    },
    "without": [{"training": "public", "stem": "conv"}, {"training": "continued", "stem": "conv"}],
    "report": {
        "metric": "test_top1",
        "metric_name": "top-1 accuracy",
        "x": "fraction",
        "x_name": "fraction of the labels",
        "repeats": "seed",
        "compare": {"training": ["OST", "TST"], "stem": ["patchify", "conv"]},
        "titles": {
            "training": "pre-training",
            "stem": "the stem",
            "OST": "one-stage training (OST)",
            "TST": "two-stage training (TST)",
            "public": "public weights",
            "continued": "continued pre-training",
            "patchify": "patchify stem",
            "conv": "conv stem",
        },
    },
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
