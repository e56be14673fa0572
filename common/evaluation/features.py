"""Owns what a network makes of a split: outputs of every image, in the split's order, and how rich the features are."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.data.loading.loader import Batch, normalise
from common.training.precision import uncompiled

if TYPE_CHECKING:
    from accelerate import Accelerator


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module of `model` in evaluation mode, uncompiled, and each back to its own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with uncompiled():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def network_outputs(
    model: nn.Module,
    loader: Iterable[Batch],
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return (outputs, indices) of the images this process looks at, in evaluation mode; outputs in fp32 on the device."""
    outputs, indices = [], []
    with evaluating(model):
        for batch in loader:
            moved = batch.to(device)
            outputs.append(model(normalise(moved.views[0][0], mean, std)).float())
            indices.append(moved.indices)
    return torch.cat(outputs), torch.cat(indices)


def gather_blocks(block: Tensor, total: int, accelerator: "Accelerator") -> Tensor:
    """Return the rows of all processes in order, from the block of `EvaluationSampler` that each holds; `total` in all."""
    world = accelerator.num_processes
    if world == 1:
        return block
    sizes = [total * (rank + 1) // world - total * rank // world for rank in range(world)]
    padded = torch.zeros(max(sizes), *block.shape[1:], dtype=block.dtype, device=block.device)
    padded[: len(block)] = block
    parts = accelerator.gather(padded).split(max(sizes))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


@torch.no_grad()
def feature_rank(features_ND: Tensor) -> float:
    """Return the effective rank of features: exp of the entropy of their singular values' shares (Roy & Vetterli 2007).

    D when they spread evenly over all directions, 1 when all lie on a line: the sign of a collapse. Features are centred.
    """
    if not torch.isfinite(features_ND).all():
        return float("nan")
    values = torch.linalg.svdvals(features_ND.float() - features_ND.float().mean(0))
    shares = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()))
