"""Owns checkpoints: written whole or not at all, read back bit by bit; safetensors plus JSON, nothing pickled."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

logger = logging.getLogger(__name__)

TENSORS, VALUES = "state.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint holds."""

    step: int
    """Optimizer steps done; training goes on with this step's batch."""
    tensors: dict[str, Tensor]
    """Every tensor of the state by its dotted name."""
    values: dict[str, Any]
    """Everything else of the state, as JSON has it."""


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], values: Mapping[str, Any], *, keep: int = 2
) -> None:
    """Write a checkpoint below `folder` and drop all but the last `keep`.

    It is written to a temporary folder, flushed to the disk and renamed, so that a kill at any moment leaves either the
    former checkpoints or these and the new one; never a torn one under a checkpoint's name.
    """
    final, temporary = folder / f"step-{step:09d}", folder / f".writing-{step:09d}"
    for leftover in folder.glob(".writing-*"):
        shutil.rmtree(leftover)
    temporary.mkdir(parents=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary / TENSORS)
    digest = hashlib.sha256((temporary / TENSORS).read_bytes()).hexdigest()
    (temporary / VALUES).write_text(json.dumps({"step": step, "sha256": digest, "values": dict(values)}))
    for path in (temporary / TENSORS, temporary / VALUES, temporary):
        _flush(path)
    if final.exists():  # damaged, or training would have gone on from it
        shutil.rmtree(final)
    temporary.rename(final)
    _flush(folder)
    whole = sorted(folder.glob("step-*"))
    behind = whole[whole.index(final) + 1 :]  # left by a try that this one was taken back behind: damaged, too
    for old in [*whole[: whole.index(final) + 1][:-keep], *behind]:
        shutil.rmtree(old)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the newest whole checkpoint below `folder`, or None; a damaged one is passed over and the log says so."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            return _read(path)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            logger.warning("checkpoint %s is damaged (%s); going back to the one before it", path, error)
    return None


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


def _read(path: Path) -> Checkpoint:
    """Read one checkpoint and hold it against its checksum."""
    described = json.loads((path / VALUES).read_text())
    if hashlib.sha256((path / TENSORS).read_bytes()).hexdigest() != described["sha256"]:
        raise ValueError("its checksum does not fit")
    return Checkpoint(described["step"], load_file(path / TENSORS), described["values"])


def _flush(path: Path) -> None:
    """Force a file or folder onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
