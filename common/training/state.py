"""Owns the way between a run's objects and its checkpoints: what is saved of them and when, and from where a run goes on.

Modules and optimizers are tensors by dotted names, the rest is values.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from common.training.checkpoints import Checkpoint
from common.training.loss_watch import LossWatch
from common.training.progress import Progress
from common.training.run import Run
from common.training.run_folder import Schedules
from common.training.status import Ending


class Counting(Protocol):
    """What counts along with a run: its monitor, the watch over its losses, the broken images."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; every process calls it."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""


class TrainingState:
    """All that a run goes on from: networks, optimizer, gradient scaler, and what counts along."""

    def __init__(
        self,
        run: Run,
        networks: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        *,
        monitor: Counting,
        watch: LossWatch,
        errors: Counting,
    ) -> None:
        """Take the run, its networks by their names in a checkpoint, and what counts along."""
        self.run, self.networks, self.optimizer, self.watch = run, networks, optimizer, watch
        self.counting: dict[str, Counting] = {"monitor": monitor, "watch": watch, "errors": errors}

    def restore(self, schedules: Schedules) -> int:
        """Read the newest checkpoint back, where there is one, and return the number of steps done (`Run.restore`)."""
        checkpoint = self.run.restore(schedules, load=self.load)
        return checkpoint.step if checkpoint else 0

    def pause(self, step: int) -> Ending | None:
        """Save when it is time to; return an ending when a signal asked for a stop, or when there is nothing sound to save."""
        due = self.run.due(step, steps_per_epoch=self.watch.steps_per_epoch)
        if due.checkpoint:
            if ending := self.watch.flush():
                return ending
            self.save(step, milestone=due.milestone)
        return self.run.interrupted() if due.stop else None

    def take_back(self, ending: Ending, progress: Progress) -> Ending | None:
        """Go back to the last checkpoint after a crash, where the recipe says so; return the ending where it does not.

        The steps up to the crash count as done: their batches are left out.
        """
        crashed_at = ending.step or progress.step
        checkpoint = self.run.rewind(ending, crashed_at)
        if checkpoint is None:
            return ending
        self.load(checkpoint)
        progress.step = crashed_at
        self.save(crashed_at)
        return None

    def save(self, step: int, *, milestone: bool = False) -> None:
        """Write a checkpoint of `step` done steps; every process calls it."""
        tensors, values = self.take()
        self.run.save(step, tensors, values, milestone=milestone)

    def take(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and the values of a checkpoint; every process calls it."""
        tensors = optimizer_state(self.optimizer)
        for name, network in self.networks.items():
            tensors |= module_state(name, network)
        scaler = self.run.accelerator.scaler
        values: dict[str, Any] = {name: part.state() for name, part in self.counting.items()}
        return tensors, values | {"scaler": scaler and scaler.state_dict()}

    def load(self, checkpoint: Checkpoint) -> None:
        """Bring everything back to where the checkpoint was written."""
        for name, network in self.networks.items():
            load_module_state(name, network, checkpoint.tensors)
        load_optimizer_state(self.optimizer, checkpoint.tensors)
        for name, part in self.counting.items():
            part.load_state(checkpoint.values[name])
        if (scaler := self.run.accelerator.scaler) is not None:
            scaler.load_state_dict(checkpoint.values["scaler"])


def module_state(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers by dotted name."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def load_module_state(prefix: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Read a module's parameters and buffers back, strictly."""
    mark = f"{prefix}."
    module.load_state_dict({name.removeprefix(mark): t for name, t in tensors.items() if name.startswith(mark)})


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's moments and counters by dotted name; rates and decay come from the schedules."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": value
        for index, moments in state.items()
        for name, value in moments.items()
        if isinstance(value, Tensor)
    }


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Read an optimizer's moments and counters back."""
    state: dict[int, dict[str, Tensor]] = {}
    for dotted, tensor in tensors.items():
        if dotted.startswith("optimizer."):
            _, index, name = dotted.split(".")
            state.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
