"""Counter-based random number generators: each stream is a pure function of its key, independent of process and call order."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np


@lru_cache(maxsize=64)
def _stream_key(stream: str) -> int:
    """Return the 64-bit hash of a stream's name."""
    return int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")


def _key(seed: int, stream: str) -> np.ndarray:
    """Return the two 64-bit words of Philox's key."""
    return np.array([seed % 2**64, _stream_key(stream)], dtype=np.uint64)


def _counter(epoch: int, index: int, repeat: int, view: int) -> np.ndarray:
    """Return the four 64-bit words of Philox's counter."""
    return np.array([0, (repeat << 32) | view, index, epoch], dtype=np.uint64)


def generator(
    seed: int, *, epoch: int = 0, index: int = 0, repeat: int = 0, view: int = 0, stream: str = "sample"
) -> np.random.Generator:
    """Return the generator for one key (seed, epoch, index, repeat, view, stream).

    A counter-based Philox: seed and stream form its key; epoch, index, repeat and view form the upper three words of its
    256-bit counter; the lowest word counts the numbers drawn. The streams of two keys do not overlap within the first 2**64
    blocks. `repeat` and `view` must be below 2**32.
    """
    return np.random.Generator(np.random.Philox(key=_key(seed, stream), counter=_counter(epoch, index, repeat, view)))


class SampleKey(NamedTuple):
    """Identify one sample of a run. Together with the seed it keys all random draws for that sample."""

    epoch: int
    position: int
    """Position in the epoch over all processes, counted from 0."""
    index: int  # type: ignore[assignment]  # shadows tuple.index, which is not used on keys
    """Index of the image in its split."""
    repeat: int
    """Number of earlier occurrences of the image in this global batch."""


def generators(seed: int, keys: Iterable[SampleKey], *, stream: str) -> Iterator[np.random.Generator]:
    """Yield `generator` of each sample in turn; each is valid until the next.

    One generator is set to each key, in a quarter of the time of building one: numpy gathers entropy for every new generator,
    even where a key replaces it.
    """
    philox = np.random.Philox(key=_key(seed, stream))
    state, rng = philox.state, np.random.Generator(philox)
    for key in keys:
        state["state"]["counter"] = _counter(key.epoch, key.index, key.repeat, 0)
        philox.state = state
        yield rng
