"""Results of a study in a folder of small text files, and the study folder that a report reads, made again from them.

    study.yaml        the plan: the study with its runs, cells and choices, as the study wrote it
    runs.csv          a line per run that is done: every number and word of its result.json, in full
    origin.json       machine, versions, commit and date of the runs
    images.csv        the test images, and
    predictions.csv   the predictions for them (`stored_predictions`), if the report has intervals over test images
    curves.csv        metrics during training that the report reads
    duplicates.json   images that occur in several parts of the data (`stored_duplicates`), if a run recorded any

The report's own code computes the numbers of the documents from the restored folder: whatever changes them there changes them here.
"""

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from common.config import flatten
from common.errors import UserError
from common.evaluation.predictions import read_predictions, write_predictions
from common.files import path_exists, write_atomic
from common.json_text import to_json
from common.training.run_folder import PREDICTIONS
from recipes.publish.origin import Origin, read_origin
from recipes.publish.stored_duplicates import DUPLICATES, restore_duplicates, write_duplicates
from recipes.publish.stored_predictions import (
    describe_test_sets,
    metric_kind,
    read_predictions_text,
    read_test_sets,
    write_images,
    write_predictions_text,
)
from recipes.reports.results import StudyRecord, read_study
from recipes.reports.run_files import read_at_fraction, read_curves, read_num_classes
from recipes.result import RESULT
from recipes.study.report_specification import ReportSpec, TableReportSpec
from recipes.study.specification import REPOSITORY

FILES = ("study.yaml", "runs.csv", "origin.json", "images.csv", "predictions.csv", "curves.csv", DUPLICATES)
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")


def store_study(study: StudyRecord, target: Path, note: str = "") -> None:
    """Write the results of a study into the folder `target`, instead of what is stored there."""
    if not any(run.result for run in study.runs.values()):
        raise UserError(f"{study.folder}: no run is done, so there is nothing to publish. Run the study first.")
    plan = (study.folder / "study.yaml").read_text(encoding="utf-8").replace(f"{REPOSITORY}/", "")
    origin = read_origin(study, note)
    texts = {"study.yaml": plan, "runs.csv": _write_runs(study, origin)}
    origin.num_classes = read_num_classes(study)
    texts |= _write_predictions(study, origin) | _write_curves(study) | write_duplicates(study)
    texts["origin.json"] = to_json(origin.to_mapping(), indent=2, ensure_ascii=False) + "\n"
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if name in texts:
            write_atomic(target / name, texts[name])
        else:
            (target / name).unlink(missing_ok=True)


@contextmanager
def restored(stored: Path) -> Iterator[tuple[StudyRecord, Origin]]:
    """Yield a stored study as a report reads it, and where it comes from; its run folders exist within the `with` block."""
    if not path_exists(stored / "study.yaml"):
        raise UserError(
            f"{stored}: no stored results of a study. Store them by `python -m recipes publish <folder of the study>`."
        )
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            origin = Origin.from_mapping(json.loads(_read(stored / "origin.json")))
            shutil.copyfile(stored / "study.yaml", folder / "study.yaml")
            _restore_runs(stored, folder, origin)
            restore_duplicates(stored, folder)
            study = read_study(folder)
            _restore_predictions(stored, study, origin)
            _restore_curves(stored, study)
            _restore_classes(study, origin)
        except (ValueError, LookupError, TypeError, AssertionError, csv.Error) as error:
            reason = str(error).replace(f"{folder}/", "") if isinstance(error, UserError) else repr(error)
            raise UserError(
                f"{stored}: not the stored results of a study ({reason}). Store them again by `python -m recipes publish"
                " <folder of the study>`."
            ) from error
        yield study, origin


def _read(path: Path) -> str:
    """Return the text of a file of a stored study; raise ValueError if it is missing."""
    if not path_exists(path):
        raise ValueError(f"{path.name} is missing")
    return path.read_text(encoding="utf-8")


def _write_runs(study: StudyRecord, origin: Origin) -> str:
    """Return runs.csv: the scalars of every result.json, and the number of the run's environment."""
    lines: list[dict[str, Any]] = []
    for name, run in study.runs.items():
        if run.result is not None:
            content = json.loads((run.folder / RESULT).read_text(encoding="utf-8"))
            flat = {key: value for key, value in content.items() if not isinstance(value, dict | list)}
            flat |= flatten({"metrics": dict(run.result.metrics)})
            known = {key: value for key, value in flat.items() if value is not None and not isinstance(value, bool)}
            lines.append({"run": name, "environment": origin.environment_of[name], **known})
    columns = dict.fromkeys(key for line in lines for key in line)
    ordered = sorted(columns, key=lambda key: key.startswith("metrics."))
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ordered, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return buffer.getvalue()


def _restore_runs(stored: Path, folder: Path, origin: Origin) -> None:
    """Write result.json and environment.json of every stored run."""
    for row in csv.DictReader(io.StringIO(_read(stored / "runs.csv"))):
        run = folder / "runs" / row.pop("run")
        run.mkdir(parents=True)
        environment = origin.environments[int(row.pop("environment"))]
        values = {key: _value(text) for key, text in row.items() if text != ""}
        metrics = {key.removeprefix("metrics."): value for key, value in values.items() if key.startswith("metrics.")}
        content = {key: value for key, value in values.items() if not key.startswith("metrics.")}
        (run / RESULT).write_text(to_json({"reason": "", **content, "metrics": metrics}), encoding="utf-8")
        (run / "environment.json").write_text(to_json(environment), encoding="utf-8")
        origin.environment_of[run.name] = origin.environments.index(environment)


def _value(text: str) -> int | float | str:
    """Return the value of an entry of runs.csv."""
    if not _NUMBER.fullmatch(text):
        return text
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _write_predictions(study: StudyRecord, origin: Origin) -> dict[str, str]:
    """Return images.csv and predictions.csv if the report is about a metric of the test images; otherwise nothing."""
    metric = _tested_metric(study)
    if metric is None:
        return {}
    done = [run for run in study.of_stage(study.last_stage) if run.result and path_exists(run.folder / PREDICTIONS)]
    runs = {run.planned.id: read_predictions(run.folder / PREDICTIONS) for run in done}
    if not runs:
        return {}
    origin.metric_kind = metric_kind(runs, metric)
    sets: list[Any] = []
    text = write_predictions_text(runs, sets, metric)
    origin.test_sets = describe_test_sets(sets)
    return {"images.csv": write_images(sets), "predictions.csv": text}


def _restore_predictions(stored: Path, study: StudyRecord, origin: Origin) -> None:
    """Write predictions.parquet of every run that has stored predictions."""
    metric = _tested_metric(study)
    if metric is None or not origin.test_sets:
        return
    sets = read_test_sets(_read(stored / "images.csv"), origin.test_sets)
    text = _read(stored / "predictions.csv")
    for name, predictions in read_predictions_text(text, sets, metric, origin.metric_kind).items():
        write_predictions(study.runs[name].folder / PREDICTIONS, predictions)


def _tested_metric(study: StudyRecord) -> str | None:
    """Return the first metric of the report that is one of the test images; None without one."""
    spec = study.plan.study.report
    names = [spec.metric] if isinstance(spec, ReportSpec) else list(spec.metrics.values())
    return next((name for name in names if name.startswith("test_") and "@" not in name), None)


def _write_curves(study: StudyRecord) -> dict[str, str]:
    """Return curves.csv: the metrics during training that the report's table reads (`<metric>@<fraction>`)."""
    names = _curve_names(study)
    if not names:
        return {}
    done = {name: run for name, run in study.runs.items() if run.result}
    curves = read_curves(done.values(), names)
    epochs = {
        (run, name): found.epochs if (found := read_at_fraction(done[run], name, 1.0)) else 0
        for run, name in curves.groupby(["run", "name"]).groups
    }
    own = [epochs[pair] for pair in zip(curves["run"], curves["name"], strict=True)]
    return {"curves.csv": str(curves.assign(epochs=own).to_csv(index=False, lineterminator="\n"))}


def _curve_names(study: StudyRecord) -> Sequence[str]:
    """Return the metrics that the report reads during training."""
    spec = study.plan.study.report
    metrics: Mapping[str, str] = spec.metrics if isinstance(spec, TableReportSpec) else {}
    return list(dict.fromkeys(metric.partition("@")[0] for metric in metrics.values() if "@" in metric))


def _restore_curves(stored: Path, study: StudyRecord) -> None:
    """Write metrics.jsonl and the epochs in config.yaml of every run that has stored curves."""
    if not _curve_names(study):
        return
    curves = pd.read_csv(io.StringIO(_read(stored / "curves.csv")), float_precision="round_trip")
    for name, own in curves.groupby("run", sort=False):
        folder = study.runs[str(name)].folder
        (folder / "config.yaml").write_text(f"train:\n  epochs: {int(own['epochs'].iloc[0])}\n", encoding="utf-8")
        lines = [
            to_json({"step": step, "epoch": epoch, metric: value})
            for epoch, step, metric, value in zip(own["epoch"], own["step"], own["name"], own["value"], strict=True)
        ]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _restore_classes(study: StudyRecord, origin: Origin) -> None:
    """Write the number of classes where a report looks for it: in the export of a run of the last stage."""
    run = next((run for run in study.of_stage(study.last_stage) if run.result), None)
    if run is not None and origin.num_classes is not None:
        (run.folder / "export").mkdir()
        (run.folder / "export" / "config.json").write_text(to_json({"num_classes": origin.num_classes}))
