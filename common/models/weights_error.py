"""Errors about weights. What reads a file does not know by which key or option it was named: `naming_key` adds that."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from common.errors import UserError


class WeightsError(UserError):
    """Weights that cannot be used: why, and what to do, in words that hold for any key."""

    def __init__(self, reason: str, key: str | None = None) -> None:
        super().__init__(reason if key is None else f"{key}: {reason}")
        self.reason, self.key = reason, key


class AbsentWeights(WeightsError):
    """Published weights that are neither in the cache nor to be downloaded: there is no connection, or the server gives none."""


class LayoutError(ValueError):
    """Tensors that do not follow the layout of their program: why, and what to do, after the name of their file."""


def required(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """Return a tensor that every network of its program has; raise LayoutError if it is missing."""
    if name not in tensors:
        raise LayoutError(f"lacks the tensor {name}: it is incomplete; copy the file again, or use other weights")
    return tensors[name]


@contextmanager
def naming_key(key: str) -> Iterator[None]:
    """Name in an error about weights within a `with` block the key or option that gave them, if no inner block has done so."""
    try:
        yield
    except WeightsError as error:
        if error.key is not None:
            raise
        raise type(error)(error.reason, key) from error
