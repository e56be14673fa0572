"""Sharpness-aware minimization (SAM, Foret et al. 2021)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class SharpnessAware:
    """Perturb the weights to w + rho * g / ||g|| for the second gradient, then restore them (Foret et al. 2021, algorithm 1).

    ||g|| is one norm over all parameters. There is no state between steps, so the base optimizer's state is the complete state.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rho: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.rho = rho

    @contextmanager
    def perturbed(self) -> Iterator[None]:
        """Perturb the weights while the block computes the second gradient, then restore them bitwise.

        Every parameter is restored, even one without a gradient in the block. A non-finite first gradient makes the weights and
        so the second gradient non-finite, which the caller's check of the step detects: no synchronization with the device.
        """
        with torch.no_grad():
            moved = [parameter for parameter in self.parameters if parameter.grad is not None]
            gradients = [parameter.grad for parameter in moved if parameter.grad is not None]
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            before = [parameter.detach().clone() for parameter in moved]
            scale = self.rho / (norm + 1e-12)
            torch._foreach_add_(_tensors(moved), list(torch._foreach_mul(gradients, scale)))
            for parameter in self.parameters:
                parameter.grad = None
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(_tensors(moved), before)


def _tensors(parameters: list[nn.Parameter]) -> list[Tensor]:
    """Return the same list with the type that torch's `_foreach` operations require."""
    return list(parameters)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Freeze the running statistics of every batch norm; batch statistics are used as usual."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, flag in zip(norms, tracked, strict=True):
            norm.track_running_stats = flag
