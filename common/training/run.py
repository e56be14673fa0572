"""Owns a run: its accelerator, its folder, its log, its signals and its cadence. The stages' loops own the training."""

import json
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from common import config as recipes
from common.errors import UserError
from common.paths import user_path
from common.training.state import Checkpoint, newest_checkpoint, save_checkpoint
from common.training.verdicts import Ending, Verdict

logger = logging.getLogger(__name__)

INTERRUPTED = 75
"""Exit code of a run that a signal stopped after it saved its state (EX_TEMPFAIL: the same command goes on)."""

OPERATIONAL = (
    "out",
    "data.workers",
    "data.cache_megabytes",
    "data.verify",
    "data.on_error",
    "data.max_errors",
    "train.checkpoint_minutes",
    "train.log_every",
)
"""Keys that may differ when a run goes on: they change no number."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, how much at once, on what."""

    epochs: int = 100
    """Passes over the (subset of the) training images."""
    batch_size: int = 256
    """Images per optimizer step over all processes together."""
    seed: int = 0
    """Seed of the weights, the order of the images and every random draw."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward and backward pass; weights and moments stay in fp32."""
    evaluate_every: int = 10
    """Epochs between looks at the validation images; the last epoch is always looked at."""
    checkpoint_minutes: float = 10.0
    """Minutes between checkpoints; one is also written when a signal stops the run."""
    log_every: int = 50
    """Steps between lines of metrics.jsonl; every epoch ends with one in any case."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        for name in ("epochs", "batch_size", "evaluate_every", "log_every"):
            if getattr(self, name) < 1:
                yield name, f"{getattr(self, name)} must be at least 1."
        for name, most in (("epochs", 10**6), ("batch_size", 2**24)):
            if getattr(self, name) > most:
                yield name, f"{getattr(self, name)} must be at most {most}."
        if self.seed < 0:
            yield "seed", f"{self.seed} must be at least 0."
        if self.checkpoint_minutes <= 0:
            yield "checkpoint_minutes", f"{self.checkpoint_minutes} must be above 0."


class Run:
    """One training run and its folder, as every process of it sees it."""

    def __init__(self, config: Any, train: TrainConfig, *, stage: str, out: str, overrides: list[str]) -> None:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

        self.stage, self.train, self.folder = stage, train, user_path(out, "out")
        if train.precision == "fp16" and not torch.accelerator.is_available():
            raise UserError("train.precision = fp16: needs a GPU, and this machine shows none. Use bf16 or fp32.")
        self.accelerator = Accelerator(
            mixed_precision="no" if train.precision == "fp32" else train.precision,
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False),
                InitProcessGroupKwargs(timeout=timedelta(minutes=30)),
            ],
        )
        self._check_processes()
        self.device: torch.device = self.accelerator.device
        self.rank, self.num_processes = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main: bool = self.accelerator.is_main_process
        self.started = time.monotonic()
        self._saved_at = time.monotonic()
        self._seconds_before = 0.0
        self._stop: str | None = None
        self._open_folder(config, overrides)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, self._on_signal)

    @property
    def seconds(self) -> float:
        """Seconds spent on this run, earlier tries included up to their last checkpoint."""
        return self._seconds_before + time.monotonic() - self.started

    def finished_result(self) -> dict[str, Any] | None:
        """Return the result of a run that has ended for good already, else None."""
        path = self.folder / "result.json"
        result: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
        return None if result is None or result["verdict"] == Verdict.INTERRUPTED else result

    def restore(self) -> Checkpoint | None:
        """Return the newest whole checkpoint; cut metrics.jsonl back to its step."""
        checkpoint = newest_checkpoint(self.folder / "checkpoints")
        kept_step = checkpoint.step if checkpoint else -1
        if checkpoint:
            self._seconds_before = checkpoint.values["seconds"]
            logger.info("going on from step %d of %s", checkpoint.step, self.folder)
        path = self.folder / "metrics.jsonl"
        if self.is_main and path.is_file():
            lines = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            path.write_text("".join(line for line in lines if json.loads(line)["step"] <= kept_step))
        self.accelerator.wait_for_everyone()
        return checkpoint

    def save(self, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Write a checkpoint of `step` done steps; every process waits until it is whole."""
        if self.is_main:
            try:
                save_checkpoint(self.folder / "checkpoints", step, tensors, {**values, "seconds": self.seconds})
            except (OSError, SafetensorError) as error:
                raise UserError(
                    f"out = {self.folder}: the checkpoint of step {step} cannot be written ({error})."
                ) from error
        self._saved_at = time.monotonic()
        self.accelerator.wait_for_everyone()

    def wants_checkpoint(self) -> bool:
        """Tell whether it is time for a checkpoint; all processes agree."""
        return self._agree(time.monotonic() - self._saved_at > 60 * self.train.checkpoint_minutes)

    def wants_stop(self) -> bool:
        """Tell whether a signal asked any process to stop; all processes agree."""
        return self._agree(self._stop is not None)

    def log(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl."""
        if self.is_main:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")

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
            "device_hours": round(self.seconds * self.num_processes / 3600, 5),
            **facts,
        }
        if self.is_main:
            write_whole(self.folder / "result.json", json.dumps(result, indent=2) + "\n")
            logger.info(
                "%s: %s (%s); %.0f s, results in %s",
                self.stage,
                ending.verdict,
                ending.reason,
                self.seconds,
                self.folder,
            )
        self.accelerator.wait_for_everyone()
        return INTERRUPTED if ending.verdict == Verdict.INTERRUPTED else 0

    def interrupted(self) -> Ending:
        """Return the ending of a run that a signal stopped."""
        return Ending(Verdict.INTERRUPTED, f"{self._stop or 'a signal to another process'}; the same command goes on")

    def _agree(self, mine: bool) -> bool:
        """Return whether any process says yes."""
        if self.num_processes == 1:
            return mine
        flag = torch.tensor([int(mine)], device=self.device)
        return bool(self.accelerator.reduce(flag, reduction="sum").item())

    def _check_processes(self) -> None:
        """Refuse a launch whose processes do not know of each other: they would train independent copies."""
        wanted, found = int(os.environ.get("WORLD_SIZE", "1")), self.accelerator.num_processes
        if wanted != found:
            raise UserError(
                f"WORLD_SIZE = {wanted}, but accelerate sees {found} process. On CPUs set ACCELERATE_USE_CPU=true and launch "
                "with `accelerate launch --multi_gpu --num_processes N` (the README's section on several processes)."
            )

    def _open_folder(self, config: Any, overrides: list[str]) -> None:
        """Create the run folder, or refuse one that holds another recipe's run."""
        path, mapping = self.folder / "config.yaml", recipes.to_mapping(config)
        began = any((self.folder / name).exists() for name in ("checkpoints", "metrics.jsonl", "result.json"))
        if path.is_file() and began:
            self._compare(recipes.flatten(recipes.resolve(path)), recipes.flatten(mapping))
        elif began or (self.folder.exists() and not self.folder.is_dir()):
            raise UserError(f"out = {self.folder}: not a run folder of this project. Name another one.")
        self.accelerator.wait_for_everyone()
        if self.is_main:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_whole(path, f"# stage: {self.stage}\n{recipes.to_yaml(config)}")
                write_whole(self.folder / "overrides.txt", "".join(f"{word}\n" for word in overrides))
                write_whole(self.folder / "environment.json", json.dumps(environment(self.device), indent=2) + "\n")
            except OSError as error:
                raise UserError(f"out = {self.folder}: cannot be written ({error}). Name another folder.") from error
        self.accelerator.wait_for_everyone()

    def _compare(self, before: dict[str, Any], now: dict[str, Any]) -> None:
        """Refuse to go on with a recipe that differs in a key that changes numbers."""
        keys = [key for key in sorted({*before, *now}) if key not in OPERATIONAL]
        differing = [key for key in keys if before.get(key) != now.get(key)]
        if differing:
            lines = [f"  {key}: {before.get(key, 'absent')} there, {now.get(key, 'absent')} now" for key in differing]
            raise UserError(
                f"out = {self.folder}: holds a run of another recipe. Name another folder, or give the same recipe to go on.\n"
                + "\n".join(lines)
            )

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        """Ask for a stop after the step under way; a second SIGINT leaves at once."""
        if number == signal.SIGINT and self._stop is not None:
            raise KeyboardInterrupt
        self._stop = f"stopped by {signal.Signals(number).name}"


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old text or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_text(text)
    temporary.replace(path)


def environment(device: torch.device) -> dict[str, Any]:
    """Return what a run depends on beyond its recipe: versions, hardware, the state of the checkout."""
    from importlib.metadata import version

    names = ("torch", "torchvision", "timm", "accelerate", "datasets", "safetensors", "numpy")
    return {
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_changed": bool(_git("status", "--porcelain")),
        "command": " ".join(sys.orig_argv),
    }


def _processor() -> str:
    """Return the processor's name as the system gives it."""
    path = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if line.startswith("model name")]
        if path.is_file()
        else []
    )
    return names[0] if names else platform.processor()


def _git(*words: str) -> str:
    """Return what git says of the checkout, or nothing where there is none."""
    root = Path(__file__).resolve().parents[2]
    try:
        return subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
