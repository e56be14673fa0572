"""The files of a run folder except its checkpoints: the resolved recipe, the metrics line by line, the result."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np

from common import config as recipes
from common.data.sources.shards.addresses import shown_value
from common.data.splits.training_images import TRAINING_IMAGES_FILE
from common.errors import UserError
from common.files import fsync, list_folder, path_exists, write_atomic
from common.json_text import to_json
from common.paths import PATH_KEYS, is_local, is_same_path
from common.training.schedules import Schedule
from common.training.tracker import TRACKER_FILE
from common.yaml_words import values_of

logger = logging.getLogger(__name__)

Schedules = Callable[[int], Mapping[str, Schedule]]
"""From a number of epochs to all schedules of a run by name, each an array with a value per step."""

CONSTANT = {
    "learning rate": "optim.min_lr equal to the peak rate",
    "weight decay": "no optim.weight_decay_end",
    "average momentum": "ema_decay instead of ema_span",
    "teacher momentum": "dino.momentum_teacher_end equal to dino.momentum_teacher",
    "teacher temperature": "dino.warmup_teacher_temp_epochs=0",
}
"""Settings that make each schedule constant."""
TORN_RESULT = "Delete only this file and run the same command again: the run resumes from its last checkpoint."
"""Remedy for a result.json that cannot be parsed."""
PREDICTIONS = "predictions.parquet"
"""Predictions for the test images (`common.evaluation.predictions`), written before the result."""
CONFUSION_MATRIX = "confusion_matrix.csv"
"""Number of test images by class and predicted class, written with the predictions."""
BEGUN = {"checkpoints", "metrics.jsonl", PREDICTIONS, CONFUSION_MATRIX, "result.json", "labels.json"}
"""Entries of the folder of a run that has begun."""
WRITTEN = (
    "config.yaml",
    "overrides.txt",
    "environment.json",
    "data.json",
    "inputs.json",
    "subset.json",
    TRAINING_IMAGES_FILE,
    TRACKER_FILE,
    "export",
    *sorted(BEGUN),
)
"""Entries that runs write. If a folder has one of them but no recipe, something else wrote it."""
SHARDS = r"labels-\d+\.safetensors"
"""Shards of token labels: with one of them, the run that writes token labels has begun."""
_STAGE = "# stage: "
OPERATIONAL = (
    "out",
    "data.stage_to",
    "data.stage_gigabytes",
    "data.workers",
    "data.cache_megabytes",
    "data.verify",
    "data.on_corrupt",
    "data.max_corrupt",
    "data.init_overlap",
    "train.checkpoint_minutes",
    "train.checkpoint_steps",
    "train.keep_checkpoints",
    "train.keep_every_epochs",
    "train.log_every",
    "train.tracker",
)
"""Keys that may differ when a run is resumed: they do not change any number."""


def changes_numbers(key: str, value: Any) -> bool:
    """Return whether a key of a recipe, with this value, takes part in what a run computes."""
    return key not in OPERATIONAL and (key != "data.duplicates" or value == "drop")


class RunFolder:
    """The folder of a run, as a new process finds it."""

    def __init__(self, path: Path, config: Any, stage: str) -> None:
        """Take the folder and the current recipe. Raise UserError if the folder holds a run of another recipe, or no run at all."""
        self.path, self.stage = path, stage
        self.epochs_before: int | None = None
        """`train.epochs` of the run in the folder, if no other key differs; none otherwise."""
        self.moved: dict[str, tuple[str, str]] = {}
        """Keys that name another path than before, with both; what is there must be the same (`open_images`)."""
        self.has_shards = False
        """Whether the folder holds token labels."""
        with self._reading():
            if path_exists(path) and not path.is_dir():
                raise UserError(f"out = {path}: is a file. Set out to a folder.")
            found = {entry.name for entry in list_folder(path, "|".join(map(re.escape, WRITTEN)))}
            if "config.yaml" in found:
                stage_before = self._stage_before()
                self.has_shards = bool(list_folder(path, SHARDS))
                if found & BEGUN or self.has_shards:
                    self._compare(config, stage_before)
            elif found:
                raise UserError(
                    f"out = {path}: not a run folder of this project: it has {', '.join(sorted(found))}, as runs do, "
                    "but no config.yaml. Set out to another folder."
                )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise a UserError for an OSError within the block: the file may be intact, so nothing is changed."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"out = {self.path}: {Path(error.filename or self.path).name} cannot be read ({error.strerror or error}). Nothing"
                " was changed. Make it readable (permissions, file system, open files) and run the same command again."
            ) from error

    def holds_recipe(self) -> bool:
        """Return whether the folder holds the recipe of a run, begun or not."""
        with self._reading():
            return path_exists(self.path / "config.yaml")

    def result(self) -> dict[str, Any] | None:
        """Return the last result written, or None."""
        path = self.path / "result.json"
        with self._reading():
            if not path_exists(path):
                return None
            try:
                found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
                if not isinstance(found["status"], str):
                    raise TypeError("its status is not a string")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(f"{path}: not the result of a run ({error!r}). {TORN_RESULT}") from error
        return found

    def write(self, name: str, text: str) -> None:
        """Write a text file atomically: a reader sees the old text or the new one."""
        write_atomic(self.path / name, text)

    def forget_result(self) -> None:
        """Remove the result of a run that is extended, durably (it stays removed after a power failure).

        Its export gets the name `export-<epochs>-epochs`: `init` would take it for that of the longer run, which may not end.
        """
        export = self.path / "export"
        if path_exists(export):
            name = f"{export.name}-{self.epochs_before}-epochs"
            names = chain([name], (f"{name}-{number}" for number in count(2)))
            aside = next(free for each in names if not path_exists(free := self.path / each))
            export.rename(aside)
            logger.info("%s of the run of %s epochs is now %s", export, self.epochs_before, aside.name)
        (self.path / "result.json").unlink(missing_ok=True)
        fsync(self.path)

    def forget_predictions(self) -> None:
        """Remove the predictions of an attempt without a result, durably: the run may diverge instead of writing new ones."""
        found = [path for name in (PREDICTIONS, CONFUSION_MATRIX) if path_exists(path := self.path / name)]
        for path in found:
            path.unlink()
        if found:
            fsync(self.path)

    def log(self, line: Mapping[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(to_json(line) + "\n")

    def flush_log(self) -> None:
        """Sync metrics.jsonl to disk: no checkpoint may exist without the lines before it."""
        if path_exists(path := self.path / "metrics.jsonl"):
            fsync(path)

    def cut_log(self, step: int, *, is_expected: bool = False) -> None:
        """Remove the lines of metrics.jsonl after `step`, and incomplete ones that a kill or a full disk left.

        Log a warning if lines are expected and there are none.
        """
        path = self.path / "metrics.jsonl"
        with self._reading():
            text = path.read_text(encoding="utf-8", errors="replace") if path_exists(path) else None
        kept = [line for line in (text or "").splitlines(keepends=True) if _step(line) <= step]
        if is_expected and not kept:
            logger.warning("%s has no line up to step %d: the curves of this run begin there", path, step)
        if text is not None:
            self.write("metrics.jsonl", "".join(kept))

    def check_epochs(self, epochs: int, steps_done: int, schedules: Schedules) -> str | None:
        """Return a message on extending the run from its previous `train.epochs`, or None if the number has not changed.

        Raise UserError if a schedule would have had other values in the steps already done: no recipe describes a run that
        follows one schedule and then another.
        """
        if self.epochs_before is None:
            return None
        before, now = schedules(self.epochs_before), schedules(epochs)
        for name, values in now.items():
            done, wanted = before[name][:steps_done], values[:steps_done]
            if len(wanted) < steps_done:
                raise UserError(
                    f"train.epochs = {epochs}: {self.path} has already done {steps_done} steps, and {epochs} epochs have "
                    f"{len(wanted)}. Set train.epochs={self.epochs_before} to resume, or another out."
                )
            differing = np.flatnonzero(done != wanted)
            if len(differing):
                step = int(differing[-1])
                raise UserError(
                    f"train.epochs = {epochs}: {self.path} was started with {self.epochs_before}, and its {name} is a schedule "
                    f"over all epochs: at step {step} of the {steps_done} done it was {done[step]:.4g}, with {epochs} epochs it "
                    f"is {wanted[step]:.4g}. Resuming would join two schedules into one that no recipe describes. Set "
                    f"train.epochs={self.epochs_before} to resume, {self._others(epochs)}. Constant schedules can be extended: "
                    f"{', '.join(CONSTANT[each] for each in now)}."
                )
        return (
            f"train.epochs: {self.epochs_before} before, {epochs} now. {', '.join(now)}: the same values with both for the "
            f"{steps_done} steps done, so the run resumes as if it had been started with {epochs}."
        )

    def _others(self, epochs: int) -> str:
        """Return what else than resuming there is: another run, from the start or, once there is an export, from its weights."""
        longer = f"another out for a run of {epochs} epochs"
        if not path_exists(self.path / "export"):
            return f"or {longer}"
        return f"{longer}, or another out with init={self.path} to train the weights further"

    def _stage_before(self) -> str:
        """Return the stage of the recipe in the folder, from its first line. Raise UserError if it is not there."""
        path = self.path / "config.yaml"
        first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if path.is_file() else ""
        if not first.startswith(_STAGE):
            raise UserError(
                f"out = {self.path}: not a run folder of this project: its config.yaml does not begin with '{_STAGE}...'. Set "
                "out to another folder."
            )
        return first.removeprefix(_STAGE).strip()

    def _compare(self, config: Any, stage: str) -> None:
        """Raise UserError if the recipe differs in a key that changes numbers; another number of epochs is only recorded.

        A key that did not exist when an earlier version started the run had its default.
        """
        if stage != self.stage:
            raise UserError(
                f"out = {self.path}: holds a run of the stage {stage}, not of {self.stage}. Set out to another folder."
            )
        now = recipes.flatten(recipes.to_mapping(config))
        written = values_of(recipes.resolve(self.path / "config.yaml"))
        before = recipes.flatten(recipes.defaults(type(config))) | recipes.flatten(written)
        keys = sorted({*before, *now})
        pairs = {key: (before.get(key, "absent"), now.get(key, "absent")) for key in keys}
        pairs = {key: pair for key, pair in pairs.items() if pair[0] != pair[1] and not _is_same_path(key, pair)}
        pairs = {key: pair for key, pair in pairs.items() if any(changes_numbers(key, value) for value in pair)}
        self.moved = {key: pair for key, pair in pairs.items() if _may_be_moved(key, pair)}
        differing = [key for key in pairs if key not in self.moved]
        epochs = before.get("train.epochs")
        if differing == ["train.epochs"] and type(epochs) is int and epochs > 0:
            self.epochs_before = epochs
        elif differing:
            raise other_recipe(self.path, pairs)


def other_recipe(folder: Path, pairs: Mapping[str, tuple[Any, Any]]) -> UserError:
    """Return the error for a folder that holds a run of another recipe; `pairs` are the values there and now, by key."""
    return UserError(
        f"out = {folder}: holds a run of another recipe. Set out to another folder, or use the same recipe to resume.\n"
        + "\n".join(
            f"  {key}: {shown_value(there)} there, {shown_value(now)} now" for key, (there, now) in pairs.items()
        )
    )


def _is_same_path(key: str, pair: tuple[Any, Any]) -> bool:
    """Return whether two values of a key are one path, written in two ways."""
    return key in PATH_KEYS and all(isinstance(value, str) for value in pair) and is_same_path(*pair)


def _may_be_moved(key: str, pair: tuple[Any, Any]) -> bool:
    """Return whether a key names another path than before where the same may be found."""
    return key in PATH_KEYS and all(isinstance(value, str) for value in pair) and is_local(pair[1])


def _step(line: str) -> float:
    """Return the step of a line of metrics.jsonl; infinity for an incomplete line."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")
