"""Measurements on a GPU in a process of their own, so that a study holds no memory of it while its runs train."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from common.errors import UserError

Call = Callable[..., Any]
"""Calls a function with arguments, here or in another process, and returns its result."""


def call_here(function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Any:
    """Call a function in this process."""
    return function(*args, **keywords)


@contextmanager
def measuring_process() -> Iterator[Call]:
    """Yield a function that calls others in a new process, which ends, and frees its memory of the GPU, with the `with` block.

    Functions, arguments, results and errors are pickled. Raise UserError if the process is killed.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:

        def call(function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Any:
            try:
                return pool.submit(function, *args, **keywords).result()
            except BrokenProcessPool as error:
                raise UserError(
                    f"size: the process that measures the GPU was killed ({error}). Free memory, and rerun the same command."
                ) from error

        yield call
