"""A run: its processes and its folder. `loop.py` trains in it, evaluations of one pass write their result to it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from common import config as recipes
from common.json_text import to_json
from common.locks import accept_locks, check_locks, has_lost_lock, lock_folder
from common.memory import keep_freed_memory
from common.paths import check_length, user_path
from common.surroundings import INTERRUPTED
from common.training.accelerator import build_accelerator, with_bf16
from common.training.bf16 import warn_of_slow_bf16
from common.training.environment import environment
from common.training.folder_view import describe_folder
from common.training.open_images import confirm_moved
from common.training.precision_choice import AUTO, choose_precision, with_precision
from common.training.process_group import ProcessGroup
from common.training.run_folder import RunFolder
from common.training.signals import StopSignals
from common.training.status import RunOutcome, RunStatus
from common.training.tracker import Tracker, check_tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

CHOSEN_PRECISION = "chosen_precision"
"""Entry of environment.json: what `train.precision: auto` chose."""
_EXECUTION = {"compiled": "compile", "deterministic": "deterministic"}
"""Arguments of `build_accelerator` and the keys of the section `train` that set them, which evaluations may lack."""


def start_run(config: Any, *, stage: str, precision: str, overrides: list[str]) -> "Run":
    """Set up this process and open its run in the folder `config.out`.

    Sets up, in this order: the accelerator (devices, process group, mixed precision), the allocator on a CPU, and, once the
    folder has been accepted, the signal handlers that ask for a stop. The recipe of the run, `Run.config`, is `config` with the
    precision that `auto` chose. Raise UserError for a launch or a folder that cannot work.
    """
    check_tracker(_tracker_name(config))
    train = getattr(config, "train", None)
    execution = {key: getattr(train, name, False) for key, name in _EXECUTION.items()}
    accelerator = build_accelerator("fp32" if precision == AUTO else precision, **execution)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    chosen = choose_precision(config, accelerator) if precision == AUTO else None
    if chosen is not None:
        config = with_precision(config, chosen)
        accelerator = with_bf16() if chosen == "bf16" else accelerator
    elif precision == "bf16" and accelerator.is_main_process:
        warn_of_slow_bf16(accelerator.device)
    run = Run(config, accelerator, stage=stage, overrides=overrides, chosen_precision=chosen)
    run.signals.install()
    return run


class Run:
    """One run and its folder, as each of its processes sees them."""

    def __init__(
        self,
        config: Any,
        accelerator: "Accelerator",
        *,
        stage: str,
        overrides: list[str],
        chosen_precision: str | None = None,
    ) -> None:
        self._chosen = {} if chosen_precision is None else {CHOSEN_PRECISION: chosen_precision}
        self.config, self.stage, self.folder = config, stage, user_path(config.out, "out")
        check_length(self.folder, "out")
        self.accelerator = accelerator
        self.device: torch.device = accelerator.device
        self.rank: int = accelerator.process_index
        self.num_processes: int = accelerator.num_processes
        self.is_main: bool = accelerator.is_main_process
        self.process_group = ProcessGroup(accelerator)
        self.signals = StopSignals()
        self.seconds_before, self.device_seconds_before = 0.0, 0.0
        """Seconds of earlier attempts up to the checkpoint from which this one resumes."""
        self.data_facts: dict[str, Any] = {}
        """What was found in the images, for result.json."""
        self._started = time.monotonic()
        self._log_error: OSError | None = None
        self._tracker = self._build_tracker()
        self.process_group.check_same(describe_folder(self.folder))
        self.files = self.process_group.read(lambda: RunFolder(self.folder, config, stage))
        self._pending = [(self.folder, lambda: self._describe(overrides))]
        self._is_accepted = False
        has_begun = self.process_group.any(self.process_group.read(self.files.holds_recipe))[0]
        accelerator.wait_for_everyone()  # every process has read the folder before one writes to it
        if not has_begun:
            self.accept()

    @property
    def seconds(self) -> float:
        """Seconds spent on this run, including earlier attempts up to their last checkpoint."""
        return self.seconds_before + time.monotonic() - self._started

    @property
    def device_seconds(self) -> float:
        """Seconds summed over devices, whatever the number of processes was in earlier attempts."""
        return self.device_seconds_before + (time.monotonic() - self._started) * self.num_processes

    def has_ended(self) -> bool:
        """Return, and log, whether the run has already ended for good."""
        result = self.process_group.read(self.files.result, describe=lambda found: [str(found and found["status"])])
        if result is None or result["status"] == RunStatus.INTERRUPTED:
            return False
        if self.files.epochs_before is not None and result["status"] != RunStatus.DIVERGED:
            return False
        if self.files.moved:
            confirm_moved(self)
        logger.info("%s has already ended: %s. Nothing to do.", self.folder, result["status"])
        return True

    def accept(self) -> None:
        """Write what the run is, now that nothing in its folder contradicts it; every process calls it.

        A new folder is accepted immediately, one that holds a run only after its files have been read: until then it is unchanged.
        """
        self.lock()
        self._is_accepted = True
        accept_locks()
        pending, self._pending = self._pending, []
        for where, action in pending:
            self.write(where, action)

    def lock(self) -> None:
        """Lock the folder against other runs; every process calls it, and all raise where another run holds the lock."""
        self.write(self.folder, lambda: lock_folder(self.folder))

    def write_once_accepted(self, where: Path, action: Callable[[], None]) -> None:
        """Do as `write`, but not before `accept`."""
        if self._is_accepted:
            self.write(where, action)
        else:
            self._pending.append((where, action))

    def write(self, where: Path, action: Callable[[], None]) -> None:
        """Let the main process write to `where`; every process waits, and all raise the same UserError when it fails."""

        def write() -> None:
            check_locks()
            action()

        self.process_group.write(f"out = {where}:", write)

    def write_recipe(self) -> None:
        """Write the resolved recipe, with its stage in the first line; the main process calls it."""
        self.files.write("config.yaml", f"# stage: {self.stage}\n{recipes.to_yaml(self.config)}")

    def restart(self) -> None:
        """Begin a run without checkpoints from its start: discard log and predictions of an unfinished attempt.

        Every process calls it.
        """
        self.lock()
        self.write(self.folder, self._discard)
        self.accept()

    def is_stop_requested(self) -> bool:
        """Return whether a signal asked any process to stop, for a stage without checkpoints; all processes agree."""
        return self.process_group.any(self.signals.reason is not None)[0]

    def log(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Append a line to metrics.jsonl. If that fails, all processes end together at the next step.

        None is written to a folder that another run has taken over; the next checkpoint reports that.
        """
        if self.is_main and self._log_error is None and not has_lost_lock():
            try:
                self.files.log({"step": step, "epoch": epoch, **values})
            except OSError as error:
                self._log_error = error
            if self._tracker is not None:
                self._tracker.log(step, {"epoch": epoch, **values})

    @property
    def has_log_error(self) -> bool:
        """Whether this process failed to write a line of metrics.jsonl."""
        return self._log_error is not None

    def raise_log_error(self) -> None:
        """Raise a UserError in every process if a line of metrics.jsonl could not be written; every process calls it."""
        self.write(self.folder / "metrics.jsonl", self._raise_log_error)

    def gather_rows(self, values: Tensor) -> list[Any]:
        """Return every process's values (a vector) as plain numbers, for a checkpoint; every process calls it."""
        gathered: list[Any] = self.accelerator.gather(values[None]).tolist()
        return gathered

    def local_shard(self, gathered: list[Any]) -> Tensor:
        """Return this process's values of what `gather_rows` returned; the mean if the number of processes has changed."""
        values = torch.tensor(gathered, device=self.device)
        return values[self.rank] if len(gathered) == self.num_processes else values.mean(0)

    def interrupted(self) -> RunOutcome:
        """Return the outcome of a run that a signal stopped."""
        reason = self.signals.reason or "a signal to another process"
        return RunOutcome(RunStatus.INTERRUPTED, f"{reason}; the same command resumes the run")

    def finish(
        self, outcome: RunOutcome, *, step: int, images: int, rewinds: Sequence[Mapping[str, Any]] = (), **facts: Any
    ) -> int:
        """Write result.json and return the exit code of the process, after `step` steps on `images` images.

        The step in the result is the one at which a divergence was certain; it was detected some steps later. `rewinds` are
        those of `Loop`.
        """
        result = {
            "stage": self.stage,
            "status": str(outcome.status),
            "kind": outcome.kind,
            "reason": outcome.reason,
            "step": step if outcome.step is None else outcome.step,
            "seconds": round(self.seconds, 2),
            "images": images,
            "images_per_second": round(images / max(self.seconds, 1e-9), 1),
            "num_processes": self.num_processes,
            "device_hours": round(self.device_seconds / 3600, 5),
            "rewinds": list(rewinds),
            **self.data_facts,
            **facts,
        }
        self.raise_log_error()
        text = to_json(result, indent=2) + "\n"
        self.write(self.folder / "result.json", lambda: self.files.write("result.json", text))
        if self._tracker is not None:
            self._tracker.finish(step, facts.get("metrics", {}), str(outcome.status), outcome.reason)
        if self.is_main:
            words = (self.stage, outcome.status, outcome.reason, self.seconds, self.folder)
            logger.info("%s: %s (%s); %.0f s, results in %s", *words)
        return INTERRUPTED if outcome.status == RunStatus.INTERRUPTED else 0

    def _build_tracker(self) -> Tracker | None:
        """Return the tracker of the recipe, in the main process."""
        name = _tracker_name(self.config)
        recipe = recipes.flatten(recipes.to_mapping(self.config))
        return Tracker(name, self.folder, recipe) if name is not None and self.is_main else None

    def _describe(self, overrides: list[str]) -> None:
        """Write what the run is. Another `train.epochs` is written once it is accepted, not before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.files.epochs_before is None:
            self.write_recipe()
        self.files.write("overrides.txt", "".join(f"{word}\n" for word in overrides))
        self.files.write("environment.json", to_json({**environment(self.device), **self._chosen}, indent=2) + "\n")

    def _discard(self) -> None:
        """Remove what an unfinished attempt of a run without checkpoints left."""
        self.files.cut_log(-1)
        self.files.forget_predictions()

    def _raise_log_error(self) -> None:
        if self._log_error is not None:
            raise self._log_error


def _tracker_name(config: Any) -> Any:
    """Return the recipe's tracker; None for an evaluation of one pass, which logs no curves."""
    return getattr(getattr(config, "train", None), "tracker", None)
