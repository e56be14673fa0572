"""Synthetic studies: run folders as the stages write them, with numbers chosen so that the content of a report is known."""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.figures import Figure
from recipes.reports import report
from recipes.reports.figure_style import STYLE
from recipes.run.engines import LocalSlots
from recipes.study.plan import Plan, PlannedRun, Resolver, make_plan
from recipes.study.specification import Study
from recipes.study.stored_plan import write_plan
from recipes.study.study_file import build_study


@pytest.fixture(autouse=True)
def quick_pdfs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed fonts as Type 3 in the PDF files of tests: subsets of TrueType fonts take a quarter of a report's time."""
    if request.node.get_closest_marker("embedded_fonts") is None:
        monkeypatch.setitem(STYLE, "pdf.fonttype", 3)


STUDY: dict[str, Any] = {
    "name": "known",
    "question": "Is pre-training worth it?",
    "stages": {"pretrain": {"recipe": "pretrain.yaml"}, "finetune": {"recipe": "finetune.yaml"}},
    "axes": {
        "stem": {"levels": {"patchify": {"model.stem": "patchify"}, "conv": {"model.stem": "conv"}}},
        "training": {"levels": {"OST": {}, "TST": {"starts_from": {"finetune": "pretrain"}}}},
        "fraction": {"key": "finetune.data.fraction", "values": [0.1, 0.25, 0.5, 1.0]},
        "seed": {"key": ["train.seed", "finetune.data.subset_seed"], "values": [0, 1, 2]},
    },
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
            "patchify": "patchify stem",
            "conv": "conv stem",
        },
    },
}

OST = {"0.1": 80.0, "0.25": 88.0, "0.5": 93.0, "1": 96.0}
GAIN = {"0.1": 8.0, "0.25": 4.0, "0.5": 2.0, "1": 0.5}
CONV = {"0": 0.2, "1": 1.6, "2": 1.2}
SCATTER = {"0": -0.6, "1": 0.1, "2": 0.5}
"""Accuracy = OST + GAIN (for TST) + CONV of the seed (for the conv stem) + SCATTER of the seed + interaction (for TST)."""


def accuracy(levels: Mapping[str, str]) -> float:
    """Return the synthetic accuracy of a cell."""
    seed, gain = levels["seed"], GAIN[levels["fraction"]] if levels["training"] == "TST" else 0.0
    interaction = {"0": 0.3, "1": -0.4, "2": 0.1}[seed] if gain else 0.0
    return OST[levels["fraction"]] + gain + CONV[seed] * (levels["stem"] == "conv") + SCATTER[seed] + interaction


def _echo_config(module: str, recipe: Path, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Resolve a config to its overrides, without the stages' config classes."""
    return {"recipe": recipe.name, **dict(word.split("=", 1) for word in overrides)}


def write_result(folder: Path, status: str = "finished", metrics: Mapping[str, float] = {}, **facts: Any) -> None:
    """Write a run folder's result.json and environment.json as a stage does."""
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "status": status, "reason": "", "step": 300, "metrics": dict(metrics), "seconds": 5.0, "images": 19200,
        "images_per_second": 3840.0, "parameters": 212_000, "train_images": 115, "num_processes": 1, **facts,
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    environment = {
        "python": "3.11.9",
        "versions": {"torch": "2.15.0", "timm": "1.0.31"},
        "processor": "A processor",
        "cores": 2,
    }
    (folder / "environment.json").write_text(json.dumps(environment))


def write_pretraining(folder: Path, levels: Mapping[str, str]) -> None:
    """Write the folder of a pre-training with rising curves."""
    top = 88.0 + 2 * (levels["stem"] == "conv") + float(levels["seed"])
    metrics = {"knn_top1": top, "knn_top1_untrained": 71.0, "teacher_entropy": 2.4, "kl": 0.35, "feature_rank": 21.0}
    write_result(folder, metrics=metrics, seconds=24.0, images=30_000, train_images=1149, reason="")
    lines = []
    for epoch in range(31):
        progress = 1 - math.exp(-epoch / 8)
        line: dict[str, float] = {"step": 9 * epoch, "epoch": epoch, "loss": 5.5 - 2.5 * progress}
        line |= {"teacher_entropy": 5.5 - 3.1 * progress, "kl": 0.1 + 0.3 * progress * (1.2 - progress)}
        if epoch % 5 == 0:
            line |= {"knn_top1": 71 + (top - 71) * progress, "feature_rank": 6 + 15 * progress}
        lines.append(json.dumps(line))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 1, "epo')  # killed while writing


@pytest.fixture
def study() -> Study:
    """Return `STUDY` as a study."""
    return build_study(STUDY, "known.yaml")


@pytest.fixture
def echo_config() -> Resolver:
    """Return a resolver that accepts every recipe and override."""
    return _echo_config


@pytest.fixture
def plan(study: Study) -> Plan:
    """Return the plan of `STUDY`."""
    return make_plan(study, _echo_config)


@pytest.fixture
def study_folder(plan: Plan, tmp_path: Path) -> Path:
    """Return the folder of a study whose runs are all done, with the accuracies of `accuracy`."""
    folder = tmp_path / "study"
    write_plan(plan, folder)
    for run in plan.runs:
        place = folder / "runs" / run.id
        if run.stage == "pretrain":
            write_pretraining(place, run.levels)
        else:
            value = accuracy(run.levels)
            images = round(1149 * float(run.levels["fraction"]))
            more = {"test_top1": value, "test_top5": 99.0, "test_ece": 3.2, "validation_top1": value - 0.5}
            (place / "export").mkdir(parents=True)
            (place / "export" / "config.json").write_text('{"num_classes": 10}')
            write_result(place, metrics=more, train_images=images, images=images * 60, seconds=3 + images / 200)
    return folder


@pytest.fixture
def draw_only(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that leaves out all figures of pages but those whose names begin so: all take ten seconds to draw."""

    def leave_out(*beginnings: str) -> None:
        drawn = report.page_figures

        def some(page: report.Report) -> Iterator[tuple[str, Figure, str]]:
            return (each for each in drawn(page) if each[0].startswith(beginnings))

        monkeypatch.setattr(report, "page_figures", some if beginnings else lambda page: iter(()))

    return leave_out


@pytest.fixture
def without_figures(draw_only: Callable[..., None]) -> None:
    """Write pages without figures, for tests of their words and tables."""
    draw_only()


@pytest.fixture
def run_of(plan: Plan) -> Callable[..., PlannedRun]:
    """Return a function that finds the run of a stage by its levels."""

    def find(stage: str, **levels: str) -> PlannedRun:
        return next(run for run in plan.runs if run.stage == stage and levels.items() <= run.levels.items())

    return find


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    """Return the file of `STUDY`, in a folder with its two recipes."""
    for name in ("pretrain.yaml", "finetune.yaml"):
        (tmp_path / name).write_text("{}\n")
    path = tmp_path / "known.yaml"
    path.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return path


FAKE_STAGE = """
import json, os, signal, sys, time
from pathlib import Path
here = dict(word.split("=", 1) for word in sys.argv[3:])
out = Path(here["out"])
out.mkdir(parents=True, exist_ok=True)
with open(os.environ["FAKE_STARTS"], "a") as file:
    file.write(out.name + "\\n")
print("threads", os.environ["OMP_NUM_THREADS"], flush=True)
behavior = {}
for part, what in json.loads(os.environ.get("FAKE_BEHAVIOR", "{}")).items():
    if part in out.name:
        behavior = what
def write(status, reason=""):
    epochs = float(here.get("train.epochs", 100))
    validation = 90 - abs(epochs - float(os.environ.get("FAKE_BEST_EPOCHS", 50))) / 100
    metrics = {"test_top1": 90.0, "validation_top1": validation, "validation_subset_top1": validation}
    result = {"stage": sys.argv[1], "status": status, "reason": reason, "step": 7, "metrics": metrics,
        "seconds": 0.1, "images": 70, "images_per_second": 700.0, "parameters": 5, "train_images": 10,
        "num_processes": 1}
    (out / "result.new").write_text(json.dumps(result))
    os.replace(out / "result.new", out / "result.json")  # at once, as a stage does: a study may read it at any moment
def stop(number, frame):
    (out / "checkpoint").write_text("saved")
    write("interrupted", f"stopped by {signal.Signals(number).name}")
    sys.exit(75)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, stop)
if behavior == "fail":
    print("the last line of a failing run", flush=True)
    sys.exit(3)
if "init" in here and not (Path(here["init"]) / "result.json").is_file():
    sys.exit("started before its pre-training was done")
if behavior == "sleep" and not (out / "checkpoint").exists():
    (out / "started").write_text(str(os.getpid()))
    time.sleep(600)
write("diverged" if behavior == "diverge" else "finished", "the loss was nan at step 7" if behavior == "diverge" else "")
"""


@pytest.fixture
def fake_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Create a stage that trains nothing; return a function that sets behaviors by part of a run's name.

    The function returns the names of the runs started so far.
    """
    (tmp_path / "fake_stage.py").write_text(FAKE_STAGE)
    starts = tmp_path / "starts.txt"
    starts.touch()
    monkeypatch.setenv("FAKE_STARTS", str(starts))

    def set_behavior(**parts: str) -> list[str]:
        monkeypatch.setenv("FAKE_BEHAVIOR", json.dumps(parts))
        return starts.read_text().split()

    set_behavior()
    return set_behavior


@pytest.fixture
def slots(tmp_path: Path) -> Callable[[int], LocalSlots]:
    """Return a function that builds a number of local slots that run the fake stage."""
    script = str(tmp_path / "fake_stage.py")
    return lambda number: LocalSlots(number, lambda job: [sys.executable, "-S", script, job.module, *job.arguments])
