"""Decoding in threads that nobody needs any more (a signal, too many corrupt images) ends with the next image."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from common.data.splits import thumbnails, verification

THREADS = 2


class Gated:
    """A split whose images wait for a gate, from the image `first` on; they are counted."""

    def __init__(self, length: int, first: int) -> None:
        self.length, self.first, self.gate, self.count = length, first, threading.Event(), 0

    def __len__(self) -> int:
        return self.length

    def image(self, index: int) -> Any:
        if index >= self.first:
            self.gate.wait(60)
            self.count += 1
        return np.zeros((16, 16, 3), np.uint8)


def test_verification_ends_with_the_next_image(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Gated(4 * verification.BLOCK_LENGTH, verification.BLOCK_LENGTH)
    monkeypatch.setattr(verification, "ThreadPoolExecutor", _opening(split))
    blocks = verification._decode(split, list(range(len(split))), THREADS, keep=False)  # type: ignore[arg-type]
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert split.count <= THREADS


def test_comparison_ends_with_the_next_image(monkeypatch: pytest.MonkeyPatch) -> None:
    split = Gated(thumbnails.BLOCK_LENGTH, 0)
    monkeypatch.setattr(thumbnails, "ThreadPoolExecutor", _opening(split))
    with pytest.raises(KeyboardInterrupt):
        next(thumbnails.thumbnail_blocks(split, threads=THREADS))  # type: ignore[arg-type]
    assert split.count <= THREADS


def _opening(split: Gated) -> type[ThreadPoolExecutor]:
    """Return a pool that opens the gate when it is shut down, and whose results are interrupted before the first."""

    class Pool(ThreadPoolExecutor):
        def map(self, *arguments: Any, **options: Any) -> Any:
            results = super().map(*arguments, **options)
            return interrupted(results) if split.first == 0 else results

        def shutdown(self, *arguments: Any, **options: Any) -> None:
            split.gate.set()
            super().shutdown(*arguments, **options)

    def interrupted(results: Any) -> Iterator[Any]:
        results.close()  # as the exception would, which cancels what has not begun
        raise KeyboardInterrupt
        yield

    return Pool
