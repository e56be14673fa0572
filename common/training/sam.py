"""Owns sharpness-aware minimisation: the climb to the worst nearby weights and the way back (SAM, Foret et al. 2021)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class SharpnessAware:
    """Climb to w + rho * g / ||g|| before the gradient that counts, then come back (SAM, Foret et al. 2021).

    One norm over all parameters. It keeps nothing between steps, so the base optimizer's state is the whole state.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], rho: float) -> None:
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.rho = rho

    @contextmanager
    def climbed(self) -> Iterator[None]:
        """Stand at w + e while the block computes the second gradient; w is back, bit by bit, when it ends.

        Every parameter is restored, also one that gets no gradient in the block. A first gradient that is not finite makes
        weights that are not, and so a second gradient that the caller's check of the step sees: nothing waits for the device.
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
    """Return the same list under the type that torch's fused operations ask for."""
    return list(parameters)


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Keep the running statistics of every batch norm as they are, while its batch statistics are used as ever."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    tracked = [norm.track_running_stats for norm in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, flag in zip(norms, tracked, strict=True):
            norm.track_running_stats = flag
