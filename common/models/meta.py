"""Networks on the meta device: shapes without numbers, to count what a network has and costs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_NAMES = ("add_", "clamp_", "copy_", "div_", "erfinv_", "fill_", "mul_", "normal_", "sub_", "uniform_", "zero_")
_INITIALIZERS = {getattr(torch.Tensor, name) for name in _NAMES}
"""Methods with which networks set their first weights."""


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Build networks without numbers: nothing is allocated, and the first weights, which there are none of, are not drawn.

    Drawing them is more than two thirds of the time of building a network there: PyTorch works out in Python the shape of what
    each of these methods returns, which is that of its argument.
    """
    with torch.device("meta"), _Undrawn():
        yield


class _Undrawn(TorchFunctionMode):
    """Returns tensors of the meta device as they are from the methods that would set their numbers."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of PyTorch, unless it would only set numbers that there are none of."""
        if func in _INITIALIZERS and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))
