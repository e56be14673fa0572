"""Synthetic study folders for benchmarks of the report: every file that it reads, at realistic length, without training."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from common.evaluation.predictions import Predictions, write_predictions
from recipes.study.plan import Plan, PlannedRun, make_plan
from recipes.study.specification import Study
from recipes.study.stored_plan import write_plan
from recipes.study.study_file import build_study

CLASSES = 10
PRETRAIN_EPOCHS, FINETUNE_EPOCHS = 100, 200
LOG_LINES_PER_EPOCH = 4
ENVIRONMENT = {
    "python": "3.11.7",
    "versions": {"torch": "2.15.0", "timm": "1.0.31", "numpy": "2.4.6"},
    "platform": "Linux",
    "processor": "synthetic",
    "cores": 2,
    "device": "cpu",
}


def comparison_study(*, stems: int, fractions: int, seeds: int) -> Study:
    """Return a study of one- and two-stage training: stems * (2 * fractions + 1) * seeds runs."""
    names = ["patchify", "conv", *(f"{number}Conv+1Proj" for number in range(1, 10))][:stems]
    mapping: dict[str, Any] = {
        "name": "synthetic",
        "question": "Is pre-training worth it?",
        "stages": {"pretrain": {"recipe": "pretrain.yaml"}, "finetune": {"recipe": "finetune.yaml"}},
        "axes": {
            "stem": {"levels": {name: {"model.stem": name} for name in names}},
            "training": {"levels": {"OST": {}, "TST": {"starts_from": {"finetune": "pretrain"}}}},
            "fraction": {"key": "finetune.data.fraction", "values": [round(0.8**n, 4) for n in range(fractions)][::-1]},
            "seed": {"key": ["train.seed"], "values": list(range(seeds))},
        },
        "report": {
            "metric": "test_top1",
            "metric_name": "top-1 accuracy",
            "x": "fraction",
            "x_name": "fraction of the labels",
            "repeats": "seed",
            "compare": {"training": ["OST", "TST"], "stem": ["patchify", "conv"]},
            "titles": {name: f"{name} stem" for name in names},
        },
    }
    return build_study(mapping, "synthetic.yaml")


def write_study(study: Study, folder: Path, *, images: int) -> Plan:
    """Write the folder of a study with the folder of each run; with predictions for so many test images."""
    plan = make_plan(study, lambda module, recipe, words: {"recipe": recipe.name, "words": list(words)})
    write_plan(plan, folder)
    difficulty = np.random.default_rng(0).standard_normal(images)
    for number, run in enumerate(plan.runs):
        place = folder / "runs" / run.id
        place.mkdir(parents=True)
        accuracy = _accuracy(run, np.random.default_rng(number))
        _write_files(place, run, accuracy)
        if run.stage == "finetune":
            write_predictions(place / "predictions.parquet", _predictions(accuracy, difficulty, number))
    return plan


def _accuracy(run: PlannedRun, generator: np.random.Generator) -> float:
    """Return the accuracy of a run in percent."""
    fraction = float(run.levels.get("fraction") or 1)
    bonus = 2.0 * (run.levels.get("training") == "TST") + len(run.levels["stem"]) / 10
    return float(85 + 4 * math.log10(10 * fraction) + bonus + generator.normal(0, 0.5))


def _write_files(folder: Path, run: PlannedRun, accuracy: float) -> None:
    """Write the files of a run: result, metrics, recipe, environment, and the fingerprint of its images."""
    is_first = run.stage == "pretrain"
    epochs = PRETRAIN_EPOCHS if is_first else FINETUNE_EPOCHS
    fraction = float(run.levels.get("fraction") or 1)
    lines: list[Mapping[str, Any]] = []
    for step in range(epochs * LOG_LINES_PER_EPOCH):
        epoch, progress = step // LOG_LINES_PER_EPOCH, 1 - math.exp(-4 * step / epochs / LOG_LINES_PER_EPOCH)
        losses = {"loss": 6 - 3.1 * progress, "teacher_entropy": 4.5 - 2.3 * progress, "kl": 1.6 - 0.9 * progress}
        lines.append({"step": step, "epoch": epoch, **(losses if is_first else {"loss": 2.3 - 1.7 * progress})})
        if step % LOG_LINES_PER_EPOCH == LOG_LINES_PER_EPOCH - 1:
            name = "knn_top1" if is_first else "validation_top1"
            lines.append({"step": step, "epoch": epoch, name: accuracy * progress, "feature_rank": 20 + 9 * progress})
    metrics = {"knn_top1": accuracy, "feature_rank": 24.1} if is_first else {"test_top1": accuracy}
    metrics |= {f"test_recall_{label}": accuracy for label in range(CLASSES)} if not is_first else {}
    result = {
        "status": "finished", "kind": None, "reason": "loss 0.501", "step": epochs * LOG_LINES_PER_EPOCH,
        "seconds": 90.0 + accuracy,
        "images": 100_000, "images_per_second": 1100.0, "num_processes": 1, "train_images": round(1438 * fraction),
        "parameters": 300_000, "metrics": metrics,
    }  # fmt: skip
    data = {"classes": "0" * 32, "test": {"images": 359, "labels": "1" * 32, "content": "2" * 32}}
    (folder / "result.json").write_text(json.dumps(result, indent=2))
    (folder / "data.json").write_text(json.dumps(data, indent=2))
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT, indent=2))
    (folder / "config.yaml").write_text(f"train: {{epochs: {epochs}}}\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _predictions(accuracy: float, difficulty: np.ndarray[Any, Any], seed: int) -> Predictions:
    """Return predictions with probabilities; the same images are difficult in all runs."""
    images, generator = len(difficulty), np.random.default_rng(seed)
    order = np.argsort(np.argsort(difficulty + 0.5 * generator.standard_normal(images)))
    target = np.arange(images, dtype=np.int32) % CLASSES
    prediction = np.where(order < round(accuracy * images / 100), target, (target + 1) % CLASSES).astype(np.int32)
    scores = np.sort(generator.dirichlet(np.ones(CLASSES), images), axis=1)[:, ::-1].astype(np.float32)
    return Predictions(
        images=tuple(f"{number:05d}.png" for number in range(images)),
        target=target,
        prediction=prediction,
        metrics={"top1": "top1"},
        split="test",
        fingerprint="synthetic",
        class_names=tuple(map(str, range(CLASSES))),
        loss=-np.log(scores[:, 0]),
        classes=((prediction[:, None] + np.arange(CLASSES)) % CLASSES).astype(np.int32),
        scores=np.ascontiguousarray(scores),
    )
