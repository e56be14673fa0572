"""Owns a run: its folder, what its processes agree on and when it saves. The stages' loops own the training."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common import config as recipes
from common.locks import lock_folder, sign_locks
from common.memory import keep_freed_memory
from common.paths import user_path
from common.training.accelerator import build_accelerator
from common.training.checkpoints import Checkpoint, Checkpoints
from common.training.compatibility import check_numerics, must_fit
from common.training.config import TrainConfig
from common.training.environment import environment
from common.training.numerics import numerics_version
from common.training.process_group import Agreement
from common.training.run_folder import RunFolder, Schedules
from common.training.signals import StopSignals
from common.training.status import Ending, Verdict

logger = logging.getLogger(__name__)

INTERRUPTED = 75
"""Exit code of a run that a signal stopped after it saved its state (EX_TEMPFAIL: the same command goes on)."""


@dataclass(frozen=True)
class Due:
    """What all processes do after a step."""

    stop: bool
    """A signal reached one of them: save and end."""
    checkpoint: bool
    """It is time to save."""
    milestone: bool
    """What is saved is kept for ever."""


class Run:
    """One training run and its folder, as every process of it sees it."""

    def __init__(self, config: Any, train: TrainConfig, *, stage: str, out: str, overrides: list[str]) -> None:
        self.config, self.stage, self.train, self.folder = config, stage, train, user_path(out, "out")
        self.numerics = numerics_version(stage, recipes.flatten(recipes.to_mapping(config)))
        self.accelerator = build_accelerator(train)
        self.device: torch.device = self.accelerator.device
        self.rank: int = self.accelerator.process_index
        self.num_processes: int = self.accelerator.num_processes
        self.is_main: bool = self.accelerator.is_main_process
        if self.device.type == "cpu":
            keep_freed_memory()
        self.agreement = Agreement(self.accelerator)
        self.checkpoints = Checkpoints(self.folder / "checkpoints", keep=train.keep_checkpoints)
        self.rewinds: list[dict[str, Any]] = []
        """Every way back after a crash: the step it came `from`, the step it went `to`, the reason."""
        self._started = self._saved_at = time.monotonic()
        self._seconds_before, self._device_seconds_before = 0.0, 0.0
        self._log_problem: OSError | None = None
        self.files = self.agreement.read(lambda: RunFolder(self.folder, config, stage))
        self._waiting = [(self.folder, lambda: self._describe(overrides))]
        self._is_accepted = False
        is_begun = self.agreement.any(self.agreement.read(self.files.holds_recipe))[0]
        self.accelerator.wait_for_everyone()  # all have looked at the folder before one writes to it
        if not is_begun:
            self.accept()
        self.signals = StopSignals()

    @property
    def seconds(self) -> float:
        """Seconds spent on this run, earlier tries included up to their last checkpoint."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def device_seconds(self) -> float:
        """Seconds of every device together, whatever the number of processes was in earlier tries."""
        return self._device_seconds_before + (time.monotonic() - self._started) * self.num_processes

    def has_ended(self) -> bool:
        """Tell whether the run has ended for good already, and say so."""
        result = self.agreement.read(self.files.result, tell=lambda found: str(found and found["verdict"]))
        if result is None or result["verdict"] == Verdict.INTERRUPTED:
            return False
        if self.files.epochs_before is not None and result["verdict"] != Verdict.CRASH:
            return False
        logger.info("%s has ended already: %s. Nothing to do.", self.folder, result["verdict"])
        return True

    def accept(self) -> None:
        """Write what the run is, now that nothing in its folder speaks against it; every process calls it.

        A new folder is accepted at once, one that holds a run after its files have been read: until then nothing in it changes.
        """
        self.lock()
        self._is_accepted = True
        sign_locks()
        waiting, self._waiting = self._waiting, []
        for where, action in waiting:
            self.write(where, action)

    def lock(self) -> None:
        """Keep other runs out of the folder from here on; every process calls it, and all raise where another run works there."""
        self.write(self.folder, lambda: lock_folder(self.folder))

    def write_once_accepted(self, where: Path, action: Callable[[], None]) -> None:
        """Do as `write`, but not before `accept`."""
        if self._is_accepted:
            self.write(where, action)
        else:
            self._waiting.append((where, action))

    def seed_step(self, step: int) -> None:
        """Key torch's own generator, which drop path draws from, by (seed, step, process): there is no state to save."""
        torch.manual_seed(np.random.SeedSequence([self.train.seed, step, self.rank]).generate_state(1)[0])

    def write(self, where: Path, action: Callable[[], None]) -> None:
        """Let the main process write to `where`; every process waits, and all raise the same UserError when it cannot."""
        self.agreement.write(f"out = {where}:", action)

    def restore(
        self, schedules: Schedules | None = None, *, load: Callable[[Checkpoint], None] = lambda _: None
    ) -> Checkpoint | None:
        """Return the newest whole checkpoint and cut metrics.jsonl back to its step; None when there is none.

        `load` takes what it holds, before anything in the folder changes: what does not fit the run is a UserError.
        Another `train.epochs` than before is taken where `schedules` allow it, else it is a UserError; a stage without epochs
        has no schedules.
        """
        self.lock()
        checkpoint = self.agreement.read(self.checkpoints.read_newest, tell=_told)
        step = checkpoint.step if checkpoint else 0
        if checkpoint:
            check_numerics(checkpoint, self.numerics, self.folder)
        told = schedules and self.files.check_epochs(self.train.epochs, step, schedules)
        if told:
            logger.info("%s", told)
        if checkpoint:
            self.agreement.read(lambda: self._load(checkpoint, load))
            logger.info("going on from step %d of %s", step, self.folder)
        self.write(self.folder, lambda: self._go_on_from(checkpoint, forget=told is not None))
        self.accept()
        return checkpoint

    def rewind(self, ending: Ending, step: int) -> Checkpoint | None:
        """Return the last good checkpoint when a crash at `step` is to be taken back, as `train.on_crash` says; else None.

        Training then goes on at `step` with the weights of the checkpoint: the batches between are left out, and the schedules
        stand where they would have stood.
        """
        if ending.verdict is not Verdict.CRASH or self.train.on_crash == "stop":
            return None
        is_left = len(self.rewinds) < self.train.max_rewinds
        checkpoint = self.agreement.read(self.checkpoints.read_newest, tell=_told) if is_left else None
        if checkpoint is None:
            logger.warning("%s; gone back %d times already, this is the end", ending.reason, len(self.rewinds))
            return None
        self.rewinds.append({"from": step, "to": checkpoint.step, "reason": ending.reason})
        logger.warning(
            "%s; going back to step %d and on from step %d, without the batches between (%d of %d)",
            ending.reason,
            checkpoint.step,
            step,
            len(self.rewinds),
            self.train.max_rewinds,
        )
        self.write(self.folder, lambda: self.files.cut_log(checkpoint.step))
        return checkpoint

    def save(
        self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, milestone: bool = False
    ) -> None:
        """Write a checkpoint of `step` done steps; every process waits until it is whole."""
        own = {
            "seconds": self.seconds,
            "device_seconds": self.device_seconds,
            "rewinds": self.rewinds,
            "numerics": self.numerics,
        }

        def write() -> None:
            self.files.flush_log()
            self.checkpoints.write(step, tensors, {**values, **own}, milestone=milestone)

        self.write(self.checkpoints.folder / f"step-{step:09d}", write)
        self._saved_at = time.monotonic()

    def wants_stop(self) -> bool:
        """Tell whether a signal asked any process to stop, for a stage without checkpoints; all processes agree."""
        return self.agreement.any(self.signals.reason is not None)[0]

    def due(self, step: int, *, steps_per_epoch: int) -> Due:
        """Return what comes after `step` done steps; all processes get the same answer, and must ask at the same steps."""
        late = time.monotonic() - self._saved_at > 60 * self.train.checkpoint_minutes
        stop, late, failed = self.agreement.any(self.signals.reason is not None, late, self._log_problem is not None)
        if failed:
            self.write(self.folder / "metrics.jsonl", self._raise_log_problem)
        every, milestones = self.train.checkpoint_steps, self.train.milestone_epochs
        milestone = milestones is not None and step % (milestones * steps_per_epoch) == 0
        by_steps = every is not None and step % every == 0
        return Due(stop, checkpoint=stop or late or by_steps or milestone, milestone=milestone)

    def log(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl. Where that fails, all processes end at the next step, together."""
        if self.is_main and self._log_problem is None:
            try:
                self.files.log({"step": step, "epoch": epoch, **values})
            except OSError as error:
                self._log_problem = error

    def of_every_process(self, values: Tensor) -> list[Any]:
        """Return every process's values (a vector) as plain numbers, for a checkpoint; every process must call it."""
        gathered: list[Any] = self.accelerator.gather(values[None]).tolist()
        return gathered

    def own_part(self, gathered: list[Any]) -> Tensor:
        """Return this process's values of what `of_every_process` gave; the mean where the number of processes has changed."""
        values = torch.tensor(gathered, device=self.device)
        return values[self.rank] if len(gathered) == self.num_processes else values.mean(0)

    def finish(self, ending: Ending, *, step: int, images: int, **facts: Any) -> int:
        """Write result.json and return the exit code of the process; `step` steps were trained on `images` images.

        The result's step is the one at which a crash was sure, which was read some steps later.
        """
        result = {
            "stage": self.stage,
            "verdict": str(ending.verdict),
            "kind": ending.kind,
            "reason": ending.reason,
            "step": step if ending.step is None else ending.step,
            "seconds": round(self.seconds, 2),
            "images": images,
            "images_per_second": round(images / max(self.seconds, 1e-9), 1),
            "num_processes": self.num_processes,
            "device_hours": round(self.device_seconds / 3600, 5),
            "rewinds": self.rewinds,
            **facts,
        }
        self.write(self.folder / "metrics.jsonl", self._raise_log_problem)
        text = json.dumps(result, indent=2) + "\n"
        self.write(self.folder / "result.json", lambda: self.files.write("result.json", text))
        if self.is_main:
            logger.info(
                "%s: %s (%s); %.0f s, results in %s",
                self.stage,
                ending.verdict,
                ending.reason,
                self.seconds,
                self.folder,
            )
        return INTERRUPTED if ending.verdict == Verdict.INTERRUPTED else 0

    def interrupted(self) -> Ending:
        """Return the ending of a run that a signal stopped."""
        reason = self.signals.reason or "a signal to another process"
        return Ending(Verdict.INTERRUPTED, f"{reason}; the same command goes on")

    def _load(self, checkpoint: Checkpoint, load: Callable[[Checkpoint], None]) -> None:
        """Take what a checkpoint holds, for the run and by `load`. Raise UserError where it is not what this run writes."""
        with must_fit(checkpoint, self.folder):
            self._seconds_before = float(checkpoint.values["seconds"])
            self._device_seconds_before = float(checkpoint.values["device_seconds"])
            self.rewinds = list(checkpoint.values["rewinds"])
            load(checkpoint)

    def _go_on_from(self, checkpoint: Checkpoint | None, *, forget: bool) -> None:
        """Bring the folder back to where the checkpoint was written; `forget` the result of a run that is made longer."""
        self.files.cut_log(checkpoint.step if checkpoint else -1, is_expected=checkpoint is not None)
        self.checkpoints.remove_leftovers()
        if forget:
            self.files.forget_result()
            self._write_recipe()

    def _describe(self, overrides: list[str]) -> None:
        """Write what the run is. Another `train.epochs` is written once it is accepted, not before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.files.epochs_before is None:
            self._write_recipe()
        self.files.write("overrides.txt", "".join(f"{word}\n" for word in overrides))
        self.files.write("environment.json", json.dumps(environment(self.device), indent=2) + "\n")

    def _write_recipe(self) -> None:
        self.files.write("config.yaml", f"# stage: {self.stage}\n{recipes.to_yaml(self.config)}")

    def _raise_log_problem(self) -> None:
        if self._log_problem is not None:
            raise self._log_problem


def _told(checkpoint: Checkpoint | None) -> str:
    """Return in words which checkpoint a process has read."""
    return "no checkpoint" if checkpoint is None else f"a checkpoint of step {checkpoint.step}"
