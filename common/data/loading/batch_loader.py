"""A DataLoader whose waits end on a stop signal, and whose workers' failures are one error with the remedy."""

import threading
import weakref
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from torch._C import _remove_worker_pids
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from common.data.loading.worker_failures import explain_start_failure, explain_worker_failure
from common.interruption import WaitInterrupted, interruptible

AnyBatch = TypeVar("AnyBatch", covariant=True)

_iterators: "weakref.WeakSet[_WorkerIterator]" = weakref.WeakSet()
"""Those that have workers."""
_errors_of_pinning: list[BaseException] = []
"""Errors that have ended the thread that receives batches from workers and copies them to page-locked memory."""


class BatchLoader(DataLoader[AnyBatch], Generic[AnyBatch]):
    """Raise ProcessError where workers end or cannot start, WaitInterrupted where a batch does not come after a stop signal.

    After such an error all workers of this process are killed, because nothing shows which of them still answer.
    """

    def __iter__(self) -> Any:
        """Return an iterator over the batches of the next epoch; workers start here."""
        try:
            with interruptible():
                batches = super().__iter__()
        except WaitInterrupted:
            abandon_workers()
            raise
        except (OSError, RuntimeError) as error:
            problem = explain_failure(error, self.num_workers, receiving=True)
            abandon_workers()
            raise problem or explain_start_failure(error, self.num_workers) from error
        return self._watch(batches)

    def _get_iterator(self) -> Any:
        """Return torch's iterator, with workers one that can be abandoned."""
        return _WorkerIterator(self) if self.num_workers else super()._get_iterator()

    def _watch(self, batches: Iterator[AnyBatch]) -> Iterator[AnyBatch]:
        """Yield the batches."""
        while True:
            try:
                with interruptible():
                    batch = next(batches)
            except StopIteration:
                return
            except WaitInterrupted:
                abandon_workers()
                raise
            except Exception as error:
                problem = explain_failure(error, self.num_workers, receiving=True) if self.num_workers else None
                if problem is None:
                    raise
                abandon_workers()
                raise problem from error
            yield batch


class _WorkerIterator(_MultiProcessingDataLoaderIter):
    """torch's iterator, which can be abandoned at any point of its construction, too."""

    _shutdown = True  # until the construction has come to the point at which torch can shut down
    _worker_pids_set = False
    _workers: "list[Any]" = []

    def __init__(self, loader: "DataLoader[Any]") -> None:
        _iterators.add(self)
        _catch_errors_of_pinning()
        super().__init__(loader)

    def ignore_ends(self) -> None:
        """Let torch raise no more errors about workers that have ended."""
        if self._worker_pids_set:
            _remove_worker_pids(id(self))
            self._worker_pids_set = False

    def abandon(self) -> None:
        """Kill the workers."""
        self._shutdown = True
        self.ignore_ends()
        if hasattr(self, "_pin_memory_thread"):
            self._pin_memory_thread_done_event.set()
        for queue in getattr(self, "_index_queues", ()):
            queue.cancel_join_thread()
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            worker.join(1.0)


def explain_failure(error: BaseException, workers: int | None = None, *, receiving: bool = False) -> Exception | None:
    """Return the error to raise for a failure of workers, or None if `error` is none; see `explain_worker_failure`.

    torch raises the error about a worker that has ended at any point of the main thread, also far from the loader.
    """
    for iterator in list(_iterators):  # the run ends, and a second error must not hide the first one
        iterator.ignore_ends()
    if workers is None:
        workers = max((len(iterator._workers) for iterator in _iterators), default=0)
    if "Pin memory thread exited" in str(error) and _errors_of_pinning:
        cause = _errors_of_pinning.pop()
        return explain_worker_failure(cause, workers, _exit_codes, receiving=True) or RuntimeError(repr(cause))
    return explain_worker_failure(error, workers, _exit_codes, receiving=receiving)


def _catch_errors_of_pinning() -> None:
    """Store the error that ends a thread of torch that receives batches, instead of printing it; torch raises without a reason."""
    previous = threading.excepthook
    if getattr(previous, "catches_errors_of_pinning", False):
        return

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and any(
            getattr(iterator, "_pin_memory_thread", None) is arguments.thread for iterator in list(_iterators)
        ):
            _errors_of_pinning.append(arguments.exc_value)
        else:
            previous(arguments)

    hook.catches_errors_of_pinning = True  # type: ignore[attr-defined]
    threading.excepthook = hook


def _exit_codes() -> list[int]:
    """Return the exit codes of the workers that have ended."""
    codes = [worker.exitcode for iterator in list(_iterators) for worker in iterator._workers]
    return [code for code in codes if code is not None]


def abandon_workers() -> None:
    """Kill all workers of this process. Their loaders must not be used any more.

    torch would ask them to end and join the threads that receive from them, and wait forever for one that hangs.
    """
    for iterator in list(_iterators):
        iterator.abandon()
        _iterators.discard(iterator)
