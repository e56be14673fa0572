"""Experiment trackers (TensorBoard, W&B, MLflow, trackio) by accelerate: metrics, the resolved recipe and the status of a run.

The tracker gets what metrics.jsonl and result.json hold, from a thread of its own: one that is slow, fails or cannot be reached
neither stops nor delays the training, and is reported once. Its run is named in tracker.json, so that a resumed run continues it.
"""

import importlib.util
import json
import logging
import os
import queue
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from common.data.sources.shards.addresses import shown_value
from common.errors import UserError
from common.files import path_exists, write_atomic
from common.json_text import to_json
from common.pipes import abandon_background

logger = logging.getLogger(__name__)

TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
TRACKER_FILE = "tracker.json"
PROJECT = "two-stage-vit"
"""Project of W&B and trackio and experiment of MLflow, if the environment names none."""
END_SECONDS = 10.0
"""Time that the end of a run waits for the tracker to take what is left."""
_MAX_WAITING = 1000
"""Lines that wait for a slow tracker before further ones are dropped."""
_ALTERNATIVES = {"tensorboard": "tensorboardX"}
"""Package that a tracker accepts in place of the one of its own name."""


def check_tracker(name: TrackerName | None) -> None:
    """Raise UserError if the package of a tracker is not installed."""
    if name is None:
        return
    specs = [importlib.util.find_spec(package) for package in (name, _ALTERNATIVES.get(name, name))]
    # a folder of this name in the current directory, such as W&B's own, is found without an origin
    if not any(spec is not None and spec.origin is not None for spec in specs):
        raise UserError(
            f"train.tracker = {name}: the package {name} is not installed. Install it (pip install {name}), or remove the key: "
            "metrics.jsonl in the run folder has the same values."
        )


class Tracker:
    """Send the lines and the result of a run to a tracker, in the background; the main process has one."""

    def __init__(self, name: TrackerName, folder: Path, recipe: Mapping[str, Any]) -> None:
        """Take the tracker's name, the run folder and the resolved recipe by dotted keys; the first line starts the tracker."""
        self.name, self.folder, self.recipe = name, folder, recipe
        self._waiting: queue.Queue[tuple[int, dict[str, Any], str | None] | None] = queue.Queue(_MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._has_warned = False

    def log(self, step: int, values: Mapping[str, Any], *, status: str | None = None) -> None:
        """Hand over the values of a step, and the status of a run that ends; never waits."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="tracker", daemon=True)
            self._thread.start()
        self._put((step, dict(values), status))

    def finish(self, step: int, metrics: Mapping[str, Any], status: str, reason: str) -> None:
        """Hand over the result of the run, as `result/<metric>`, and wait for the tracker, for at most `END_SECONDS`."""
        numbers = {f"result/{name}": value for name, value in metrics.items() if isinstance(value, int | float)}
        self.log(step, numbers, status=f"{status}: {reason}")
        self._put(None)
        assert self._thread is not None
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            self._warn(f"has not taken everything within {END_SECONDS:g} s of the run's end")
        if self._has_warned:
            abandon_background()

    def _put(self, item: tuple[int, dict[str, Any], str | None] | None) -> None:
        try:
            self._waiting.put_nowait(item)
        except queue.Full:
            self._warn("does not keep up, so values are dropped")

    def _work(self) -> None:
        """Start the tracker and give it what was handed over, until the end of the run."""
        tracker: Any = None
        is_started = False
        while (item := self._waiting.get()) is not None:
            step, values, status = item
            try:
                if not is_started:
                    is_started = True
                    tracker = self._start(step)
                if tracker is not None:
                    self._send(tracker, step, values, status)
            except (Exception, SystemExit) as error:  # libraries of trackers raise anything
                reason = " ".join(str(error).split())[:300]
                self._warn(
                    f"{'could not be started' if tracker is None else 'failed'} ({type(error).__name__}: {reason})"
                )
        try:
            if tracker is not None:
                tracker.finish()
        except (Exception, SystemExit) as error:
            self._warn(f"failed at its end ({type(error).__name__}: {error})")

    def _start(self, step: int) -> Any:
        """Start the tracker's run of this run folder, or continue it at `step`; return accelerate's tracker."""
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        known = self._read_id()
        run_id = known or secrets.token_hex(8)
        tracker = LOGGER_TYPE_TO_CLASS[self.name](**self._arguments(step, known, run_id))
        tracker.start()
        if self.name == "mlflow":
            run_id = tracker.tracker.info.run_id
        if known is None:
            content = {"tracker": self.name, "id": run_id}
            write_atomic(self.folder / TRACKER_FILE, to_json(content, indent=2) + "\n")
            plain = {key: _plain(value) for key, value in self.recipe.items()}
            tracker.store_init_configuration(plain)
        return tracker

    def _arguments(self, step: int, known: str | None, run_id: str) -> dict[str, Any]:
        """Return the arguments of accelerate's tracker; a run whose id is `known` is continued."""
        name = self.folder.absolute().name
        if self.name == "tensorboard":
            # events of steps that a killed run logged after its last checkpoint are replaced
            return {"run_name": "tensorboard", "logging_dir": str(self.folder), "purge_step": step}
        if self.name == "mlflow":
            return {"experiment_name": PROJECT, "run_id": known, "run_name": name}
        project = os.environ.get(f"{self.name.upper()}_PROJECT", PROJECT)
        if self.name == "wandb":
            return {"run_name": project, "id": run_id, "name": name, "resume": "allow", "dir": str(self.folder)}
        return {"run_name": project, "name": f"{name}-{run_id}", "resume": "allow"}

    def _send(self, tracker: Any, step: int, values: dict[str, Any], status: str | None) -> None:
        """Send the values of a step, and the status as text."""
        tracker.log(values, step=step)
        if status is None:
            return
        if self.name == "mlflow":  # its metrics are numbers
            import mlflow

            mlflow.set_tag("status", status)
        else:
            tracker.log({"status": status}, step=step)

    def _read_id(self) -> str | None:
        """Return the id of the tracker's run of this folder, or None if it has none yet."""
        path = self.folder / TRACKER_FILE
        if not path_exists(path):
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["id"]) if content["tracker"] == self.name else None

    def _warn(self, what: str) -> None:
        """Log a warning, the first time."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "warning: train.tracker = %s: the tracker %s. The run continues; %s has all values. Further problems of the "
                "tracker are not logged.",
                self.name,
                what,
                self.folder / "metrics.jsonl",
            )


def _plain(value: Any) -> bool | int | float | str:
    """Return a value of a recipe as a number or text, which every tracker takes."""
    value = shown_value(value)  # a presigned address would give its readers the files
    return value if isinstance(value, bool | int | float | str) else "none" if value is None else str(value)
