"""Synthetic studies whose results are published: the folder as a study leaves it, with plan and environments."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from comparison_studies import SCATTER, comparison_study, write_comparison
from table_studies import plan_of

from recipes.reports.results import StudyRecord, read_study
from recipes.study.specification import Study
from recipes.study.stored_plan import write_plan

ENVIRONMENT = {
    "python": "3.11.7",
    "versions": {"torch": "2.15.0"},
    "processor": "Known CPU",
    "processor_model": "family 6, model 106",
    "cores": 2,
    "threads": 1,
    "device": "cpu",
    "git_commit": "0123456789abcdef",
    "git_changed": False,
    "command": "python -m finetune out=/somewhere",
}


def accuracy(levels: Mapping[str, str]) -> float:
    """Return the accuracy of a run: two stages gain 4 points with few labels."""
    gain = 4.0 if levels["training"] == "TST" and levels["fraction"] == "0.1" else 0.0
    return 70 + 10 * float(levels["fraction"]) + gain + SCATTER[levels["seed"]]


def write_study(folder: Path, values: Callable[[Mapping[str, str]], Any] = accuracy, images: int = 1000) -> StudyRecord:
    """Write the folder of a comparison with a plan, as a study leaves it; return the record that a report reads."""
    study = comparison_study(fractions=(0.1, 1.0))
    write_comparison(study, folder, values, images=images)
    return with_surroundings(study, folder)


def with_surroundings(study: Study, folder: Path) -> StudyRecord:
    """Write the plan of a study, and the environment of every run."""
    write_plan(plan_of(study), folder)
    for run in (folder / "runs").iterdir():
        (run / "environment.json").write_text(json.dumps(ENVIRONMENT))
    return read_study(folder)
