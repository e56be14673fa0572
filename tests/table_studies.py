"""Synthetic studies beside printed tables: run folders with numbers chosen so that what a report says is known."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.reports.results import StudyRecord, read_runs
from recipes.study.plan import Plan, make_plan
from recipes.study.specification import Axis, Figure, Pair, Stage, Study, TableReading

TITLES = {
    "lr": "lr",
    "patchify": "patchify stem",
    "conv": "conv stem",
    "adamw": "AdamW",
    "sam": "SAM",
    "warmup_epochs": "warm-up",
    "top1": "top-1, %",
}
ENDING = Mapping[str, Any]
"""What a run of the last stage ends with: `value`, or `crash` (a step), or `waiting`; and what is written beside.

`curve` False leaves out metrics.jsonl."""


def axis_of_rows(rows: Sequence[Mapping[str, Any]]) -> Axis:
    """Return an axis `row` whose levels print the columns of `rows`."""
    return Axis(
        "row",
        {f"row{number:02d}": {"finetune.row": number} for number in range(len(rows))},
        {f"row{number:02d}": columns for number, columns in enumerate(rows)},
    )


def seeds(count: int) -> Axis:
    """Return the axis of the repeats."""
    return Axis("seed", {str(number): {"train.seed": number} for number in range(count)})


def table_study(
    axes: Sequence[Axis], figure: Figure, *, stages: Sequence[str] = ("finetune",), **reading: Any
) -> Study:
    """Return a study of `stages`, each starting from the one before, read as a table."""
    built = [
        Stage(name, name, Path(f"{name}.yaml"), {"needs": stages[number - 1]} if number else {})
        for number, name in enumerate(stages)
    ]
    whole: dict[str, Any] = {
        "table": None,
        "metrics": {"top1": "test_top1"},
        "repeats": "seed",
        "pairs": (),
        "notes": (),
    }
    whole |= {"titles": TITLES, **reading}
    question = "Does the stem carry larger learning rates?"
    return Study(
        "table",
        question,
        tuple(built),
        tuple(axes),
        TableReading(figure=figure, **whole),
        {"name": "table"},
        "table.yaml",
        "digits",
    )


def plan_of(study: Study) -> Plan:
    """Return the plan of a study, whatever its recipes say."""
    return make_plan(
        study, lambda module, recipe, words: {"recipe": recipe.name, **dict(w.split("=", 1) for w in words)}
    )


def write_ending(folder: Path, ending: ENDING, stage: str = "finetune") -> None:
    """Write the folder of a run that ended so: result.json, and metrics.jsonl with a curve to its value or to its crash."""
    if "waiting" in ending:
        return
    folder.mkdir(parents=True, exist_ok=True)
    crash, value = ending.get("crash"), ending.get("value", 50.0)
    result: dict[str, Any] = {
        "verdict": "crash" if crash else ending.get("verdict", "finished"),
        "reason": f"the loss was nan at step {crash}" if crash else "",
        "kind": "non_finite_loss" if crash else None,
        "step": crash or 300,
        "metrics": {} if crash else {"test_top1": value, "validation_top1": value, **ending.get("metrics", {})},
        "seconds": 40.0 if stage == "pretrain" else 5.0 + value / 50,
        "images": 19200, "images_per_second": 3840.0, "parameters": 212_000, "train_images": 1151, "num_processes": 1,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text("train: {epochs: 20}\n")
    if not ending.get("curve", True):
        return
    lines = []
    for epoch in range(1, 21 if not crash else 7):
        grown = 1 - math.exp(-epoch / 5)
        lines.append({"step": epoch * 15, "epoch": epoch - 1, "loss": 2.3 - 1.9 * grown * value / 100})
        if epoch % 2 == 0:
            lines.append({"step": epoch * 15, "epoch": epoch, "validation_top1": 10 + (value - 10) * grown})
    if crash:
        lines.append({"step": 91, "epoch": 6, "loss": 1e9})
        lines.append({"step": crash, "epoch": 6, "loss": math.nan})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def written(study: Study, folder: Path, end: Callable[[str, Mapping[str, str]], ENDING]) -> StudyRecord:
    """Write every run of a study as `end` (of stage and levels) says; return the folder as a report reads it."""
    plan = plan_of(study)
    for run in plan.runs:
        write_ending(folder / "runs" / run.id, end(run.stage, run.levels), run.stage)
    return read_runs(plan, folder)


TABLE1 = (
    {"stem": "patchify", "lr": 5e-4, "optimizer": "adamw", "warmup_epochs": 5},
    {"stem": "patchify", "lr": 1e-3, "optimizer": "adamw", "warmup_epochs": 5},
    {"stem": "patchify", "lr": 1e-3, "optimizer": "adamw", "warmup_epochs": 20},
    {"stem": "patchify", "lr": 1e-3, "optimizer": "sam", "warmup_epochs": 5},
    {"stem": "conv", "lr": 5e-4, "optimizer": "adamw", "warmup_epochs": 5},
    {"stem": "conv", "lr": 1e-3, "optimizer": "adamw", "warmup_epochs": 5},
    {"stem": "conv", "lr": 1e-3, "optimizer": "adamw", "warmup_epochs": 0},
    {"stem": "conv", "lr": 1e-3, "optimizer": "sam", "warmup_epochs": 5},
)
"""Rows of the scaled-ReLU paper's table 1: printed 79.8, crash, 80.0, 79.6, 81.6, 81.9, crash, 81.7."""
CLAIMS = (
    Pair("the conv stem is above patchify at lr 5e-4", TABLE1[0], TABLE1[4]),
    Pair("the conv stem carries lr 1e-3, patchify crashes", TABLE1[1], TABLE1[5]),
    Pair("SAM keeps patchify from crashing", TABLE1[1], TABLE1[3]),
    Pair("the conv stem needs a warm-up", TABLE1[6], TABLE1[5]),
)
SCATTER = (-0.5, 0.1, 0.4)


def end_table1(stage: str, levels: Mapping[str, str]) -> ENDING:
    """End table 1: row 1 crashes in 2 of 3 seeds, row 3 in 1 of 3, row 6 in none; the conv stem gains 3 points."""
    row, seed = int(levels["row"][3:]), int(levels["seed"])
    if (row, seed) in ((1, 0), (1, 2), (3, 1)):
        return {"crash": 97}
    return {"value": (90.0, 91.0, 90.4, 89.0, 93.0, 94.0, 92.0, 93.2)[row] + SCATTER[seed]}


def study_table1(count: int = 3) -> Study:
    """Return a study of some rows of table 1."""
    return table_study([axis_of_rows(TABLE1), seeds(count)], Figure("rows"), table="scaled_relu_table1", pairs=CLAIMS)
