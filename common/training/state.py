"""The state of a training as a checkpoint holds it: modules and optimizer as tensors by dotted names, the rest as values."""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from common import config as recipes
from common.checkpoint_files import Checkpoint
from common.training.checkpoints import Checkpoints
from common.training.compatibility import check_numerics, must_fit
from common.training.config import TrainConfig
from common.training.numerics import numerics_version
from common.training.run import Run
from common.training.run_folder import Schedules
from common.training.status import RunOutcome, RunStatus

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """Anything else that has state: the monitor, the watch over the losses, the count of corrupt images."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; every process calls it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load what `state_dict` returned."""


class TrainingState:
    """Everything that a run resumes from: networks, optimizer, gradient scaler, and other parts that have state."""

    def __init__(
        self,
        run: Run,
        train: TrainConfig,
        networks: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        parts: Mapping[str, Stateful],
    ) -> None:
        """Take networks and other parts by their names in a checkpoint."""
        self.run, self.train, self.networks, self.optimizer, self.parts = run, train, networks, optimizer, parts
        self.checkpoints = Checkpoints(run.folder / "checkpoints", keep=train.keep_checkpoints)
        self.numerics = numerics_version(run.stage, recipes.flatten(recipes.to_mapping(run.config)))
        self.rewinds: list[dict[str, Any]] = []
        """Each rewind after a divergence: the step it came `from`, the step it went `to`, the reason."""

    def restore(self, schedules: Schedules) -> int:
        """Load the newest complete checkpoint, if there is one, and cut metrics.jsonl back to its step; return the steps done.

        Nothing in the folder changes before everything has been read and fits. Another `train.epochs` than before is accepted
        where `schedules` allow it. Raise UserError otherwise. Every process calls it.
        """
        run = self.run
        run.lock()
        checkpoint = run.process_group.read(self.checkpoints.read_newest, describe=_describe)
        step = checkpoint.step if checkpoint else 0
        if checkpoint:
            check_numerics(checkpoint, self.numerics, run.folder)
        extension = run.files.check_epochs(self.train.epochs, step, schedules)
        if extension:
            logger.info("%s", extension)
        if checkpoint:
            run.process_group.read(lambda: self._load(checkpoint))
            logger.info("resuming from step %d of %s", step, run.folder)
        run.write(run.folder, lambda: self._cut_back(checkpoint, forget_result=extension is not None))
        run.accept()
        return step

    def save(self, step: int, *, is_kept: bool = False) -> None:
        """Write a checkpoint of `step` done steps; every process calls it and waits until it is complete."""
        tensors, values = self.take()
        own = {
            "seconds": self.run.seconds,
            "device_seconds": self.run.device_seconds,
            "rewinds": self.rewinds,
            "numerics": self.numerics,
        }

        def write() -> None:
            self.run.files.flush_log()
            self.checkpoints.write(step, tensors, {**values, **own}, milestone=is_kept)

        self.run.write(self.checkpoints.folder / f"step-{step:09d}", write)

    def rewind(self, outcome: RunOutcome, step: int) -> bool:
        """Load the last checkpoint after a divergence at `step`; return False, unchanged, where the recipe ends the run."""
        if outcome.status is not RunStatus.DIVERGED or self.train.on_divergence == "stop":
            return False
        run, is_left = self.run, len(self.rewinds) < self.train.max_rewinds
        checkpoint = run.process_group.read(self.checkpoints.read_newest, describe=_describe) if is_left else None
        if checkpoint is None:
            logger.warning("%s; already rewound %d times, the run ends", outcome.reason, len(self.rewinds))
            return False
        self.rewinds.append({"from": step, "to": checkpoint.step, "reason": outcome.reason})
        words = (outcome.reason, checkpoint.step, step, len(self.rewinds), self.train.max_rewinds)
        logger.warning(
            "%s; rewinding to step %d and resuming at step %d, skipping the batches between (%d of %d)", *words
        )
        run.write(run.folder, lambda: run.files.cut_log(checkpoint.step))
        self.load(checkpoint)
        return True

    def take(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and the values of a checkpoint; every process calls it."""
        tensors = optimizer_state(self.optimizer)
        for name, network in self.networks.items():
            tensors |= module_state(name, network)
        scaler = self.run.accelerator.scaler
        values: dict[str, Any] = {name: part.state_dict() for name, part in self.parts.items()}
        return tensors, values | {"scaler": scaler and scaler.state_dict()}

    def load(self, checkpoint: Checkpoint) -> None:
        """Load everything as it was when the checkpoint was written."""
        for name, network in self.networks.items():
            load_module_state(name, network, checkpoint.tensors)
        load_optimizer_state(self.optimizer, checkpoint.tensors)
        for name, part in self.parts.items():
            part.load_state_dict(checkpoint.values[name])
        if (scaler := self.run.accelerator.scaler) is not None:
            scaler.load_state_dict(checkpoint.values["scaler"])

    def _load(self, checkpoint: Checkpoint) -> None:
        """Load everything that a checkpoint holds. Raise UserError where it is not what this run writes."""
        with must_fit(checkpoint, self.run.folder):
            self.run.seconds_before = float(checkpoint.values["seconds"])
            self.run.device_seconds_before = float(checkpoint.values["device_seconds"])
            self.rewinds = list(checkpoint.values["rewinds"])
            self.load(checkpoint)

    def _cut_back(self, checkpoint: Checkpoint | None, *, forget_result: bool) -> None:
        """Bring the folder back to where the checkpoint was written; forget the result of a run that is extended."""
        files = self.run.files
        files.cut_log(checkpoint.step if checkpoint else -1, is_expected=checkpoint is not None)
        self.checkpoints.remove_leftovers()
        if forget_result:
            files.forget_result()
            self.run.write_recipe()
        files.forget_predictions()  # after the result, which never lacks its predictions


def module_state(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers by dotted name."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def load_module_state(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load a module's parameters and buffers, strictly."""
    mark = f"{prefix}."
    module.load_state_dict({name.removeprefix(mark): t for name, t in tensors.items() if name.startswith(mark)})


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments and counters by dotted name; learning rate and weight decay come from the schedules."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": value
        for index, moments in state.items()
        for name, value in moments.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Load an optimizer's moments and counters.

    On a CPU they are copied: PyTorch would take the tensors themselves, which are mapped from the checkpoint's file. It would keep
    its space on the disk once it is removed, and on NFS could not be removed. Raise ValueError for moments of other parameters.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for dotted, tensor in tensors.items():
        if dotted.startswith("optimizer."):
            _, index, name = dotted.split(".")
            wanted = parameters[int(index)] if int(index) < len(parameters) else None
            if tensor.dim() and (wanted is None or tensor.shape != wanted.shape):
                there = "no parameter" if wanted is None else f"a parameter of the shape {tuple(wanted.shape)}"
                raise ValueError(f"{dotted} is of the shape {tuple(tensor.shape)}, and there is {there} at its place")
            is_mapped = wanted is None or not tensor.dim() or wanted.device.type == "cpu"
            state.setdefault(int(index), {})[name] = tensor.clone() if is_mapped else tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _describe(checkpoint: Checkpoint | None) -> tuple[str, str]:
    """Return in words which checkpoint a process has read."""
    if checkpoint is None:
        return "none", "none"
    return f"step {checkpoint.step}", f"checksum {checkpoint.checksum[:8]} of step {checkpoint.step}"
