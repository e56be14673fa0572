"""Owns the files of a run folder but its checkpoints: the recipe it holds, the metrics line by line, the result."""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from common import config as recipes
from common.errors import UserError
from common.files import flush, is_there, list_folder, write_whole
from common.training.schedules import Schedule

_logger = logging.getLogger(__name__)

Schedules = Callable[[int], Mapping[str, Schedule]]
"""Every schedule of a run by its name, one value for each step, for a number of epochs."""

CONSTANT = {
    "learning rate": "optim.min_lr equal to the peak rate",
    "weight decay": "no optim.weight_decay_end",
    "average momentum": "ema_decay instead of ema_span",
    "teacher momentum": "dino.teacher_momentum_end equal to dino.teacher_momentum",
    "teacher temperature": "dino.teacher_temperature_warmup_epochs=0",
}
"""What makes each schedule a constant one."""
TORN_RESULT = "Delete this file alone and give the same command: the run goes on from its last checkpoint."
"""Remedy for a result.json that cannot be parsed."""
BEGUN = {"checkpoints", "metrics.jsonl", "result.json", "labels.json"}
"""What is in the folder of a run that has begun."""
WRITTEN = ("config.yaml", "overrides.txt", "environment.json", "data.json", "subset.json", "export", *sorted(BEGUN))
"""What runs write under names of their own: where it lies without a recipe of theirs, it is somebody else's."""
SHARDS = r"labels-\d+\.safetensors"
"""Files that a run which writes token labels has begun with."""
_STAGE = "# stage: "
OPERATIONAL = (
    "out",
    "data.workers",
    "data.cache_megabytes",
    "data.verify",
    "data.on_error",
    "data.max_errors",
    "train.checkpoint_minutes",
    "train.checkpoint_steps",
    "train.keep_checkpoints",
    "train.milestone_epochs",
    "train.log_every",
)
"""Keys that may differ when a run goes on: they change no number."""


class RunFolder:
    """A run's folder as a new process of it finds it."""

    def __init__(self, path: Path, config: Any, stage: str) -> None:
        """Take the folder and the recipe of now. Raise UserError when another recipe's run lies there, or what is no run."""
        self.path, self.stage = path, stage
        self.epochs_before: int | None = None
        """`train.epochs` of the run that lies there, when it alone differs; none otherwise."""
        with self._reading():
            if is_there(path) and not path.is_dir():
                raise UserError(f"out = {path}: this is a file. Name a folder.")
            found = {entry.name for entry in list_folder(path, "|".join(map(re.escape, WRITTEN)))}
            if "config.yaml" in found:
                stage_before = self._stage_before()
                if found & BEGUN or list_folder(path, SHARDS):
                    self._compare(config, stage_before)
            elif found:
                raise UserError(
                    f"out = {path}: not a run folder of this project: it holds {', '.join(sorted(found))}, as runs do, "
                    "and no config.yaml. Name another one."
                )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Raise a UserError for what the system cannot read within the block: it may be whole, and nothing is touched."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"out = {self.path}: {Path(error.filename or self.path).name} cannot be read ({error.strerror or error}). Nothing"
                " was changed. Let this process read it (rights, file system, open files), and give the same command again."
            ) from error

    def holds_recipe(self) -> bool:
        """Tell whether the folder holds the recipe of a run, begun or not."""
        with self._reading():
            return is_there(self.path / "config.yaml")

    def result(self) -> dict[str, Any] | None:
        """Return the result that was written last, or None."""
        path = self.path / "result.json"
        with self._reading():
            if not is_there(path):
                return None
            try:
                found: dict[str, Any] = json.loads(path.read_text())
                if not isinstance(found["verdict"], str):
                    raise TypeError("its verdict is no text")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(f"{path}: not the result of a run ({error!r}). {TORN_RESULT}") from error
        return found

    def write(self, name: str, text: str) -> None:
        """Write a text file so that a reader sees the old text or the new one, never a part."""
        write_whole(self.path / name, text)

    def forget_result(self) -> None:
        """Remove the result of a run that goes on, for good also across a loss of power."""
        (self.path / "result.json").unlink(missing_ok=True)
        flush(self.path)

    def log(self, line: Mapping[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def flush_log(self) -> None:
        """Bring metrics.jsonl onto the disk: a checkpoint must not be there without the lines before it."""
        if is_there(path := self.path / "metrics.jsonl"):
            flush(path)

    def cut_log(self, step: int, *, is_expected: bool = False) -> None:
        """Drop the lines of metrics.jsonl beyond `step`, and whatever a kill or a full disk left torn.

        Where some are expected and there are none, the log says that they are lost.
        """
        path = self.path / "metrics.jsonl"
        with self._reading():
            lines = path.read_text(errors="replace").splitlines(keepends=True) if is_there(path) else None
        kept = [line for line in lines or () if _step(line) <= step]
        if is_expected and not kept:
            _logger.warning("%s holds no line up to step %d: the curves of this run begin there", path, step)
        if lines is not None:
            self.write("metrics.jsonl", "".join(kept))

    def check_epochs(self, epochs: int, steps_done: int, schedules: Schedules) -> str | None:
        """Return what another `train.epochs` means for the run that lies here, or None where it is the same as before.

        Raise UserError when a schedule would have been another one in the steps done: no recipe describes a run that is
        half the one and half the other.
        """
        if self.epochs_before is None:
            return None
        before, now = schedules(self.epochs_before), schedules(epochs)
        for name, values in now.items():
            done, wanted = before[name][:steps_done], values[:steps_done]
            if len(wanted) < steps_done:
                raise UserError(
                    f"train.epochs = {epochs}: {self.path} has done {steps_done} steps already, and {epochs} epochs have "
                    f"{len(wanted)}. Give train.epochs={self.epochs_before} to go on, or another out."
                )
            differing = np.flatnonzero(done != wanted)
            if len(differing):
                step = int(differing[-1])
                raise UserError(
                    f"train.epochs = {epochs}: {self.path} was begun with {self.epochs_before}, and its {name} follows a curve "
                    f"over all epochs: at step {step} of the {steps_done} done it was {done[step]:.4g}, under {epochs} epochs it "
                    f"is {wanted[step]:.4g}. Going on would join two schedules into one that no recipe describes. Give "
                    f"train.epochs={self.epochs_before} to go on, another out for a run of {epochs} epochs, or another out with "
                    f"init={self.path} to train the weights further. Constant schedules can be extended: "
                    f"{', '.join(CONSTANT[each] for each in now)}."
                )
        return (
            f"train.epochs: {self.epochs_before} before, {epochs} now. {', '.join(now)}: the same values under both for the "
            f"{steps_done} steps done, so the run goes on as if {epochs} had been asked for from the start."
        )

    def _stage_before(self) -> str:
        """Return the stage that the recipe in the folder is of, as its first line tells; UserError where none tells it."""
        path = self.path / "config.yaml"
        first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if path.is_file() else ""
        if not first.startswith(_STAGE):
            raise UserError(
                f"out = {self.path}: not a run folder of this project: its config.yaml does not begin with '{_STAGE}...'. Name "
                "another one."
            )
        return first.removeprefix(_STAGE).strip()

    def _compare(self, config: Any, stage: str) -> None:
        """Refuse to go on with a recipe that differs in a key that changes numbers; more or fewer epochs are noted.

        A key that the run was begun without, by an earlier version, had its default.
        """
        if stage != self.stage:
            raise UserError(
                f"out = {self.path}: holds a run of the stage {stage}, not of {self.stage}. Name another folder."
            )
        now = recipes.flatten(recipes.to_mapping(config))
        before = recipes.flatten(recipes.defaults(type(config))) | recipes.flatten(
            recipes.resolve(self.path / "config.yaml")
        )
        keys = [key for key in sorted({*before, *now}) if key not in OPERATIONAL]
        differing = [key for key in keys if before.get(key) != now.get(key)]
        epochs = before.get("train.epochs")
        if differing == ["train.epochs"] and type(epochs) is int and epochs > 0:
            self.epochs_before = epochs
        elif differing:
            lines = [f"  {key}: {before.get(key, 'absent')} there, {now.get(key, 'absent')} now" for key in differing]
            raise UserError(
                f"out = {self.path}: holds a run of another recipe. Name another folder, or give the same recipe to go on.\n"
                + "\n".join(lines)
            )


def _step(line: str) -> float:
    """Return the step of a line of metrics.jsonl; infinity where the line is torn."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else float("inf")
    except (ValueError, KeyError, TypeError):
        return float("inf")
