"""Owns the way between a run's objects and the tensors of a checkpoint: modules and optimizers by dotted names."""

from collections.abc import Mapping

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
