"""Errors about weights. What reads a file does not know by which key or option it was named: `naming_key` adds that."""

from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import UserError


class WeightsError(UserError):
    """Weights that cannot be used: why, and what to do, in words that hold for any key."""

    def __init__(self, reason: str, key: str | None = None) -> None:
        super().__init__(reason if key is None else f"{key}: {reason}")
        self.reason, self.key = reason, key


class AbsentWeights(WeightsError):
    """Published weights that are neither in the cache nor to be downloaded: there is no connection, or the server gives none."""


@contextmanager
def naming_key(key: str) -> Iterator[None]:
    """Name in an error about weights within a `with` block the key or option that gave them, if no inner block has done so."""
    try:
        yield
    except WeightsError as error:
        if error.key is not None:
            raise
        raise type(error)(error.reason, key) from error
