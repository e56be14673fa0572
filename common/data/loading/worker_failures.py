"""Failures of loader workers: what a worker reports to its parent before it ends, and the messages for users.

A worker's main thread passes errors on by itself. Its other threads (the queue's feeder, which puts batches into shared memory, and
the one that hands out their file descriptors) only print them: the batch is lost, and the parent would wait forever.
"""

import errno
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from types import TracebackType
from typing import Any, NoReturn

from common.data.worker_count import SHARED_MEMORY
from common.errors import ProcessError, UserError
from common.json_text import to_json

_MAX_REPORT = 3000
"""Characters of a traceback in a report, few enough for a write to a pipe that is atomic."""
_LOST_WORKER = re.compile(r"DataLoader worker \(pid|Pin memory thread exited unexpectedly")
_KILLED_BY = re.compile(r"killed by signal: ([^.]*)\.")
_FROM_WORKER = re.compile(r"Caught \w+ in DataLoader worker process")


class WorkerBug(RuntimeError):
    """An unforeseen error in a thread of a loader worker; the message holds its traceback."""


class _Reports:
    """A pipe from the workers of this process, on which a worker reports why it ends."""

    def __init__(self) -> None:
        self._reader, self.writer = multiprocessing.Pipe(duplex=False)

    def take(self) -> dict[str, Any] | None:
        """Return the first report that has not been taken, or None."""
        report: dict[str, Any] | None = json.loads(self._reader.recv_bytes()) if self._reader.poll() else None
        return report


@cache
def _reports_of(_: int) -> _Reports:
    return _Reports()


def report_writer() -> Connection:
    """Return the end of this process's pipe that its workers write to."""
    return _reports_of(os.getpid()).writer


def end_on_failures(writer: Connection) -> None:
    """Let an error in any thread of this worker but the main one end the worker, after reporting it."""

    def end(error: BaseException | None) -> NoReturn:
        text = "".join(traceback.format_exception(error))[-_MAX_REPORT:]
        report = {"error": f"{type(error).__name__}: {error}"[:500], "is_system": isinstance(error, OSError)}
        try:
            writer.send_bytes(to_json({**report, "traceback": text})[: 2 * _MAX_REPORT].encode())
        finally:
            os._exit(1)

    def on_thread(arguments: threading.ExceptHookArgs) -> None:
        if not issubclass(arguments.exc_type, SystemExit):
            end(arguments.exc_value)

    def on_caught(_: type[BaseException], error: BaseException, __: TracebackType | None) -> None:
        end(error)

    Queue._on_queue_feeder_error = staticmethod(lambda error, _: end(error))  # type: ignore[attr-defined]
    threading.excepthook = on_thread
    sys.excepthook = on_caught  # of the thread that hands out file descriptors, which catches all errors


def explain_worker_failure(
    error: BaseException, workers: int, exit_codes: Callable[[], list[int]], *, receiving: bool
) -> Exception | None:
    """Return the error to raise instead of `error`, or None if it has nothing to do with workers.

    It is a ProcessError with the remedy where the surroundings are at fault, otherwise a WorkerBug. `workers` is the number of
    workers per loader, `exit_codes` returns the codes of those that have ended; `receiving`: a batch was being received.
    """
    text = str(error)
    if _FROM_WORKER.search(text):
        return _explain_error_in_worker(error, workers)
    is_lost = isinstance(error, RuntimeError) and bool(_LOST_WORKER.search(text))
    is_lost = is_lost or (receiving and isinstance(error, (EOFError, ConnectionError)))
    report = _reports_of(os.getpid()).take() if is_lost or receiving else None
    if report is not None:
        message = _known_reason(report["error"], workers)
        if message is None and report["is_system"]:
            message = f"a thread of a data loader worker failed ({report['error']}). Fix this, or set data.workers=0."
        return ProcessError(message) if message else WorkerBug(f"in a data loader worker:\n\n{report['traceback']}")
    if is_lost:
        return ProcessError(_lost_worker(text, workers, exit_codes()))
    if not isinstance(error, (OSError, RuntimeError)):
        return None
    described = f"{type(error).__name__}: {text}"
    message = _known_reason(described, workers) if receiving else _limit_reached(described)
    return ProcessError(message) if message else None


def explain_start_failure(error: OSError | RuntimeError, workers: int) -> ProcessError:
    """Return the message for workers that cannot be started."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text = f"no shared memory: {text}"
    message = _known_reason(text, workers)
    return ProcessError(
        message or f"data.workers = {workers}: the workers cannot be started ({text}). Set data.workers lower, or to 0."
    )


def _explain_error_in_worker(error: BaseException, workers: int) -> ProcessError | None:
    """Return the message for an error that torch has passed on from a worker's main thread, if it is none of the code."""
    if isinstance(error, UserError):
        name = f"{type(error).__module__}.{type(error).__name__}: "  # of the last line of the worker's traceback
        return ProcessError(str(error).rpartition(name)[2].strip())
    last = str(error).strip().splitlines()[-1]
    message = _known_reason(last, workers) if isinstance(error, (OSError, RuntimeError)) else None
    return ProcessError(message) if message else None


def _known_reason(text: str, workers: int) -> str | None:
    """Return the message for an error that the surroundings cause, or None."""
    if re.search(r"shared memory|\bshm", text):
        return (
            f"data.workers = {workers}: the workers have no shared memory left; {_shared_memory()}. Start the container with "
            "--shm-size=8g or --ipc=host, or set data.workers=0."
        )
    if "AF_UNIX path too long" in text:
        return (
            f"TMPDIR = {os.environ.get('TMPDIR', '')}: too long for the sockets of the data loader's workers. Set TMPDIR to a "
            "folder with a path of at most 60 characters, or data.workers=0."
        )
    if re.search(r"Cannot allocate memory|MemoryError", text):
        return f"data.workers = {workers}: not enough memory for the workers. {_MEMORY_REMEDY}"
    return _limit_reached(text)


def _limit_reached(text: str) -> str | None:
    """Return the message for an error that means that a limit of the process or the user is reached, or None."""
    if re.search(r"Too many open files|ancdata", text):
        return f"too many open files; the limit is {_open_file_limit()}. Raise it (`ulimit -n 4096`), or set data.workers=0."
    if re.search(r"can't start new thread|Resource temporarily unavailable|BlockingIOError", text):
        return (
            "no more processes or threads can be started. Raise the limit (`ulimit -u`, the pids limit of the container), or set "
            "data.workers lower."
        )
    return None


_MEMORY_REMEDY = "Set data.workers lower or data.cache_megabytes smaller, or give the job more memory."


def _lost_worker(text: str, workers: int, exit_codes: list[int]) -> str:
    """Return the message for a worker that has ended without a report."""
    killed = _KILLED_BY.search(text)
    signals = {signal.strsignal(number): number for number in signal.valid_signals()}
    number = signals.get(killed[1]) if killed else next((-code for code in exit_codes if code < 0), None)
    if number == signal.SIGKILL:
        return (
            f"data.workers = {workers}: a data loader worker was killed (SIGKILL), probably because memory ran out. "
            f"{_MEMORY_REMEDY}"
        )
    if number == signal.SIGBUS:
        return (
            f"data.workers = {workers}: a data loader worker was ended by a bus error, probably because shared memory is full; "
            f"{_shared_memory()}. Start the container with --shm-size=8g or --ipc=host, or set data.workers=0. Otherwise a file "
            "that is mapped into memory was cut or cannot be read."
        )
    how = "has ended; its error, if any, is above"
    if killed or number is not None:
        name = signal.Signals(number).name if number is not None else (killed or [""])[1]
        how = f"was ended by a signal ({name})"
    return f"data.workers = {workers}: a data loader worker {how}. data.workers=0 loads without workers."


def _shared_memory() -> str:
    """Return the size of the shared memory in words."""
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError as error:
        return f"{SHARED_MEMORY} cannot be used ({error.strerror})"
    kibibytes = status.f_blocks * status.f_frsize / 1024
    size = f"{kibibytes:.0f} KiB" if kibibytes < 1024 else f"{kibibytes / 1024:.0f} MiB"
    return f"{SHARED_MEMORY} holds {size}"


def _open_file_limit() -> int:
    """Return how many files this process may open."""
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
