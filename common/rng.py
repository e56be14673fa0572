"""Owns keyed randomness: a generator is a pure function of what it is for, so no stream depends on who draws or when."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np


@lru_cache(maxsize=64)
def _stream_key(stream: str) -> int:
    """Return 64 bits that stand for the name of a stream."""
    return int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")


def generator(
    seed: int, *, epoch: int = 0, index: int = 0, repeat: int = 0, view: int = 0, stream: str = "sample"
) -> np.random.Generator:
    """Return the generator of one draw, keyed by (seed, epoch, index, repeat, view, stream).

    A counter-based Philox: the seed and the stream are its key, (epoch, index, repeat and view) are the upper three words
    of its 256-bit counter, and its lowest word counts the numbers drawn. Two keys never share a stream of fewer than 2**64
    blocks. `repeat` and `view` must be below 2**32.
    """
    key = np.array([seed % 2**64, _stream_key(stream)], dtype=np.uint64)
    counter = np.array([0, (repeat << 32) | view, index, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class SampleKey(NamedTuple):
    """Name one sample of a run; with the seed it keys every random draw made for it."""

    epoch: int
    position: int
    """Place in the epoch over all processes, counted from 0."""
    index: int  # type: ignore[assignment]  # hides tuple.index, which no key is asked for
    """Index of the image in its split."""
    repeat: int
    """How often the image already came in this global batch."""
