"""Counter-based random number generators: each stream is a pure function of its key, independent of process and call order."""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np


@lru_cache(maxsize=64)
def _stream_key(stream: str) -> int:
    """Return the 64-bit hash of a stream's name."""
    return int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")


def generator(
    seed: int, *, epoch: int = 0, index: int = 0, repeat: int = 0, view: int = 0, stream: str = "sample"
) -> np.random.Generator:
    """Return the generator for one key (seed, epoch, index, repeat, view, stream).

    A counter-based Philox: seed and stream form its key; epoch, index, repeat and view form the upper three words of its
    256-bit counter; the lowest word counts the numbers drawn. The streams of two keys do not overlap within the first 2**64
    blocks. `repeat` and `view` must be below 2**32.
    """
    key = np.array([seed % 2**64, _stream_key(stream)], dtype=np.uint64)
    counter = np.array([0, (repeat << 32) | view, index, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))


class SampleKey(NamedTuple):
    """Identify one sample of a run. Together with the seed it keys all random draws for that sample."""

    epoch: int
    position: int
    """Position in the epoch over all processes, counted from 0."""
    index: int  # type: ignore[assignment]  # shadows tuple.index, which is not used on keys
    """Index of the image in its split."""
    repeat: int
    """Number of earlier occurrences of the image in this global batch."""
