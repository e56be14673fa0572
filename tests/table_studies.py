"""Synthetic studies compared with published tables: run folders with numbers chosen so that the report is known."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.reports.results import StudyRecord, read_runs
from recipes.study.plan import Plan, make_plan
from recipes.study.report_specification import Figure, Pair, TableReportSpec
from recipes.study.specification import Axis, Stage, Study

TITLES = {
    "lr": "lr",
    "patchify": "patchify stem",
    "conv": "conv stem",
    "adamw": "AdamW",
    "sam": "SAM",
    "warmup_epochs": "warm-up",
    "top1": "top-1, %",
}
RunSpec = Mapping[str, Any]
"""Contents of a synthetic run: `value`, or `crash` (a step), or `waiting`; optionally `status`, `metrics` and `train_images`.

`curve` False omits metrics.jsonl."""


def row_axis(rows: Sequence[Mapping[str, Any]]) -> Axis:
    """Return an axis `row` whose levels have the columns of `rows`."""
    return Axis(
        "row",
        {f"row{number:02d}": {"finetune.row": number} for number in range(len(rows))},
        {f"row{number:02d}": columns for number, columns in enumerate(rows)},
    )


def seed_axis(count: int) -> Axis:
    """Return the axis `seed`."""
    return Axis("seed", {str(number): {"train.seed": number} for number in range(count)})


def table_study(
    axes: Sequence[Axis],
    figure: Figure,
    *,
    stages: Sequence[str] = ("finetune",),
    scale: str | None = "digits",
    **report: Any,
) -> Study:
    """Return a study of `stages`, each starting from the previous one, reported as a table."""
    built = [
        Stage(name, name, Path(f"{name}.yaml"), {}, starts_from=stages[number - 1] if number else None)
        for number, name in enumerate(stages)
    ]
    spec: dict[str, Any] = {
        "table": None,
        "metrics": {"top1": "test_top1"},
        "repeats": "seed",
        "pairs": (),
        "notes": (),
    }
    spec |= {"titles": TITLES, **report}
    question = "Does the stem allow larger learning rates?"
    return Study(
        "table",
        question,
        tuple(built),
        tuple(axes),
        TableReportSpec(figure=figure, **spec),
        {"name": "table"},
        "table.yaml",
        scale,
    )


def plan_of(study: Study) -> Plan:
    """Return the plan of a study without reading its recipes."""
    return make_plan(
        study, lambda module, recipe, words: {"recipe": recipe.name, **dict(w.split("=", 1) for w in words)}
    )


def write_run(folder: Path, run: RunSpec, stage: str = "finetune") -> None:
    """Write the folder of a run: result.json, and metrics.jsonl with a curve up to its value or its crash."""
    if "waiting" in run:
        return
    folder.mkdir(parents=True, exist_ok=True)
    crash, value = run.get("crash"), run.get("value", 50.0)
    result: dict[str, Any] = {
        "status": "diverged" if crash else run.get("status", "finished"),
        "reason": f"the loss was nan at step {crash}" if crash else "",
        "kind": "non_finite_loss" if crash else None,
        "step": crash or 300,
        "metrics": {} if crash else {"test_top1": value, "validation_top1": value, **run.get("metrics", {})},
        "seconds": 40.0 if stage == "pretrain" else 5.0 + value / 50,
        "images": 19200, "images_per_second": 3840.0, "parameters": 212_000, "num_processes": 1,
        "train_images": run.get("train_images", 1151),
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.yaml").write_text("train: {epochs: 20}\n")
    if not run.get("curve", True):
        return
    lines = []
    for epoch in range(1, 21 if not crash else 7):
        progress = 1 - math.exp(-epoch / 5)
        lines.append({"step": epoch * 15, "epoch": epoch - 1, "loss": 2.3 - 1.9 * progress * value / 100})
        if epoch % 2 == 0:
            lines.append({"step": epoch * 15, "epoch": epoch, "validation_top1": 10 + (value - 10) * progress})
    if crash:
        lines.append({"step": 91, "epoch": 6, "loss": 1e9})
        lines.append({"step": crash, "epoch": 6, "loss": math.nan})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_study(study: Study, folder: Path, run_of: Callable[[str, Mapping[str, str]], RunSpec]) -> StudyRecord:
    """Write every run of a study as given by `run_of(stage, levels)`; return the record that a report reads."""
    plan = plan_of(study)
    for run in plan.runs:
        write_run(folder / "runs" / run.id, run_of(run.stage, run.levels), run.stage)
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
"""Rows of the scaled-ReLU paper's table 1: published values 79.8, crash, 80.0, 79.6, 81.6, 81.9, crash, 81.7."""
CLAIMS = (
    Pair("the conv stem beats patchify at lr 5e-4", TABLE1[0], TABLE1[4]),
    Pair("the conv stem tolerates lr 1e-3, patchify crashes", TABLE1[1], TABLE1[5]),
    Pair("SAM prevents the crash of patchify", TABLE1[1], TABLE1[3]),
    Pair("the conv stem needs a warm-up", TABLE1[6], TABLE1[5]),
)
SEED_OFFSETS = (-0.5, 0.1, 0.4)


def table1_outcome(stage: str, levels: Mapping[str, str]) -> RunSpec:
    """Return a run of table 1: row 1 crashes in 2 of 3 seeds, row 3 in 1 of 3, row 6 in none; the conv stem gains 3 points."""
    row, seed = int(levels["row"][3:]), int(levels["seed"])
    if (row, seed) in ((1, 0), (1, 2), (3, 1)):
        return {"crash": 97}
    return {"value": (90.0, 91.0, 90.4, 89.0, 93.0, 94.0, 92.0, 93.2)[row] + SEED_OFFSETS[seed]}


def table1_study(count: int = 3, **changes: Any) -> Study:
    """Return a study with rows of table 1 and `count` seeds."""
    spec = {"table": "scaled_relu_table1", "pairs": CLAIMS, **changes}
    return table_study([row_axis(TABLE1), seed_axis(count)], Figure("rows"), **spec)
