"""Trackers: what they get, one that fails or hangs, one that is not installed; a fake trackio in place of the package."""

import json
import logging
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate import PartialState

from common.errors import UserError
from common.training import tracker as module
from common.training.tracker import TRACKER_FILE, Tracker, check_tracker

FAKE = """
import json, os, time
from pathlib import Path

class Config(dict):
    def update(self, values, allow_val_change=False):
        run.write(config=values)

class Run:
    def write(self, **line):
        with open(os.environ["FAKE_TRACKIO"], "a") as file:
            file.write(json.dumps(line) + "\\n")
    def log(self, values, step=None):
        if os.environ.get("FAKE_FAULT") == "log":
            raise ConnectionError("no route to host")
        self.write(step=step, values=values)
    def finish(self):
        self.write(finished=True)

run, config = Run(), Config()

def init(**arguments):
    if os.environ.get("FAKE_FAULT") == "init":
        raise SystemExit(1)
    if os.environ.get("FAKE_FAULT") == "hang":
        time.sleep(600)
    run.write(init=arguments)
    return run
"""


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the fake trackio and return the file of what it gets."""
    PartialState(cpu=True)  # accelerate's trackers ask it for the main process
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "trackio.py").write_text(textwrap.dedent(FAKE))
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    monkeypatch.setenv("FAKE_TRACKIO", str(tmp_path / "sent.jsonl"))
    monkeypatch.setattr(module, "END_SECONDS", 60.0)
    yield tmp_path / "sent.jsonl"
    PartialState._reset_state()


def read(sent: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in sent.read_text().splitlines()]


def run_one(folder: Path, *, first_step: int = 1) -> None:
    folder.mkdir(exist_ok=True)
    tracker = Tracker("trackio", folder, {"train.epochs": 2, "init": None, "optim.betas": [0.9, 0.999]})
    tracker.log(first_step, {"epoch": 0, "loss": 2.5})
    tracker.finish(first_step + 1, {"test_top1": 90.0, "per_class": [1, 2]}, "finished", "loss 2.5")


def test_the_tracker_gets_recipe_lines_and_status(tmp_path: Path, sent: Path) -> None:
    run_one(tmp_path / "run")
    run_id = json.loads((tmp_path / "run" / TRACKER_FILE).read_text())["id"]
    assert read(sent) == [
        {"init": {"project": "two-stage-vit", "name": f"run-{run_id}", "resume": "allow"}},
        {"config": {"train.epochs": 2, "init": "none", "optim.betas": "[0.9, 0.999]"}},
        {"step": 1, "values": {"epoch": 0, "loss": 2.5}},
        {"step": 2, "values": {"result/test_top1": 90.0}},
        {"step": 2, "values": {"status": "finished: loss 2.5"}},
        {"finished": True},
    ]


def test_a_resumed_run_continues_the_run_of_its_tracker(tmp_path: Path, sent: Path) -> None:
    run_one(tmp_path / "run")
    run_one(tmp_path / "run", first_step=5)
    started = [line["init"] for line in read(sent) if "init" in line]
    assert len(started) == 2 and started[0] == started[1]
    assert sum("config" in line for line in read(sent)) == 1
    run_one(tmp_path / "other")
    assert read(sent)[-6]["init"] != started[0]


def test_project_is_that_of_the_environment(tmp_path: Path, sent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_PROJECT", "birds")
    run_one(tmp_path / "run")
    assert read(sent)[0]["init"]["project"] == "birds"  # type: ignore[index]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("init", "could not be started (SystemExit: 1)"),
        ("log", "failed (ConnectionError: no route to host)"),
        ("hang", "has not taken everything within 0.2 s of the run's end"),
    ],
)
def test_a_tracker_that_fails_is_reported_once(
    tmp_path: Path,
    sent: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    message: str,
) -> None:
    monkeypatch.setenv("FAKE_FAULT", fault)
    if fault == "hang":
        monkeypatch.setattr(module, "END_SECONDS", 0.2)
    abandoned: list[bool] = []
    monkeypatch.setattr(module, "abandon_background", lambda: abandoned.append(True))
    start = time.monotonic()
    with caplog.at_level(logging.WARNING):
        run_one(tmp_path / "run")
    assert time.monotonic() - start < 60
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.startswith(f"warning: train.tracker = trackio: the tracker {message}")
    assert abandoned == [True]


def test_values_for_a_tracker_that_hangs_are_dropped(
    tmp_path: Path, sent: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAKE_FAULT", "hang")
    monkeypatch.setattr(module, "_MAX_WAITING", 3)
    monkeypatch.setattr(module, "abandon_background", lambda: None)
    monkeypatch.setattr(module, "END_SECONDS", 0.1)
    tracker = Tracker("trackio", tmp_path, {})
    with caplog.at_level(logging.WARNING):
        for step in range(10):
            tracker.log(step, {"loss": 1.0})
        tracker.finish(10, {}, "finished", "")
    [warning] = [record.getMessage() for record in caplog.records]
    assert "does not keep up, so values are dropped" in warning


def test_a_tracker_that_is_not_installed_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb").mkdir()  # as W&B leaves in the current directory
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(
        UserError, match=r"train.tracker = wandb: the package wandb is not installed.*pip install wandb"
    ):
        check_tracker("wandb")
    check_tracker(None)
