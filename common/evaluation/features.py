"""Network outputs for every image of a split, gathered over processes, and the effective rank of features."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from common.data.loading.loader import Batch, normalize
from common.training.precision import uncompiled

if TYPE_CHECKING:
    from accelerate import Accelerator


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module of `model` in evaluation mode, without torch.compile, and restore each module's mode afterwards."""
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
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Return (outputs, indices) of this process's images, computed in evaluation mode; outputs are fp32 on the device."""
    outputs, indices = [], []
    with evaluation_mode(model):
        for batch in loader:
            moved = batch.to(device)
            outputs.append(model(normalize(moved.views[0][0], mean, std)).float())
            indices.append(moved.indices)
    return torch.cat(outputs), torch.cat(indices)


def gather_shards(shard: Tensor, total: int, accelerator: "Accelerator") -> Tensor:
    """Return the `total` rows of all processes in order; each process passes its shard, as `EvaluationSampler` assigns them."""
    world = accelerator.num_processes
    if world == 1:
        return shard
    sizes = [total * (rank + 1) // world - total * rank // world for rank in range(world)]
    padded = torch.zeros(max(sizes), *shard.shape[1:], dtype=shard.dtype, device=shard.device)
    padded[: len(shard)] = shard
    parts = accelerator.gather(padded).split(max(sizes))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


@torch.no_grad()
def feature_rank(features_ND: Tensor) -> float:
    """Return the effective rank: exp of the entropy of the normalized singular values of centered features (Roy & Vetterli 2007).

    D for features that spread evenly over all directions; 1 if all lie on a line, which indicates collapse. NaN if any is not
    finite.
    """
    if not torch.isfinite(features_ND).all():
        return float("nan")
    centered = features_ND.float() - features_ND.float().mean(0)
    values = torch.linalg.svdvals(centered) if centered.device.type == "cpu" else singular_values_by_products(centered)
    distribution = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(distribution * distribution.clamp_min(1e-12).log()).sum()))


def singular_values_by_products(matrix_ND: Tensor) -> Tensor:
    """Return the singular values of a tall matrix: roots of the eigenvalues of its D x D product, in double precision.

    On a GPU the decomposition of the N x D matrix itself takes many small steps.
    """
    matrix = matrix_ND.double()
    values: Tensor = torch.linalg.eigvalsh(matrix.T @ matrix).clamp_min(0).sqrt().float()
    return values
