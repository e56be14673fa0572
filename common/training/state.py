"""Owns the way between a run's objects and a checkpoint: modules and optimizers as tensors by dotted names, the rest as values."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


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


class Counting(Protocol):
    """What counts along with a run: its monitor, the watch over its losses, the broken images."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint must hold; every process calls it."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Read `state` back."""


def counting_state(scaler: Any, **parts: Counting) -> dict[str, Any]:
    """Return the values of everything that counts, by its name, and the gradient scaler's, where there is one (fp16)."""
    values: dict[str, Any] = {name: part.state() for name, part in parts.items()}
    return values | {"scaler": scaler and scaler.state_dict()}


def load_counting_state(scaler: Any, values: Mapping[str, Any], **parts: Counting) -> None:
    """Read the values of everything that counts back."""
    for name, part in parts.items():
        part.load_state(values[name])
    if scaler is not None:
        scaler.load_state_dict(values["scaler"])
