"""Failures of what surrounds a process (its workers, its peers, its limits) as one message with the remedy and an exit code."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import ProcessError
from common.interruption import WaitInterrupted, is_stop_requested

INTERRUPTED = 75
"""Exit code after a stop signal (EX_TEMPFAIL): the same command resumes the run from its last checkpoint."""
# gloo, the store and NCCL, in this order.
_LOST_PEER = re.compile(
    r"connection closed by peer|connection reset by peer|connection refused|broken pipe|connection was likely closed|"
    r"failed to recv|timed out waiting|socket timeout|wait timeout|remote process exited|communicator was aborted|"
    r"collective operation timeout",
    re.IGNORECASE,
)


@contextmanager
def explained() -> Iterator[None]:
    """Raise a ProcessError instead of a failure of the surroundings, wherever within it was raised; change no other error."""
    try:
        yield
    except WaitInterrupted as error:
        raise ProcessError(
            "stopped by a signal while reading data or fitting a classifier; nothing was saved. The last checkpoint, if there is "
            "one, is intact: the same command starts or resumes the run.",
            INTERRUPTED,
        ) from error
    except Exception as error:
        problem = _explain(error)
        if problem is None:
            raise
        raise problem from error


def _explain(error: Exception) -> Exception | None:
    """Return the error to raise instead of `error`, or None if it is none of the surroundings."""
    if isinstance(error, ProcessError):
        return None
    loading = sys.modules.get(
        "common.data.loading.batch_loader"
    )  # without it there are no workers, and torch is not needed
    if loading is not None:
        problem: Exception | None = loading.explain_failure(error)
        if problem is not None:
            loading.abandon_workers()
            return problem
    if isinstance(error, RuntimeError) and is_distributed() and _LOST_PEER.search(str(error)):
        return _lost_peer(error)
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return ProcessError(f"{error.filename or 'a file'}: too many open files. Raise the limit (`ulimit -n 4096`).")
    return None


def is_distributed() -> bool:
    """Return whether this process belongs to a process group; torch is not imported for it."""
    distributed = sys.modules.get("torch.distributed")
    return distributed is not None and distributed.is_available() and distributed.is_initialized()


def leave_at_once(code: int) -> None:
    """Exit without leaving the process group, if there is one: that could wait for processes that have ended, or, with NCCL, for a
    collective in which the others are."""
    if is_distributed():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _lost_peer(error: RuntimeError) -> ProcessError:
    """Return the message of a process whose peers are gone."""
    first = str(error).strip().splitlines()[0]
    if is_stop_requested():
        return ProcessError(
            "stopped by a signal, and another process of this run has ended before this one; nothing was saved. The last "
            "checkpoint is intact, the same command resumes from it.",
            INTERRUPTED,
        )
    return ProcessError(
        f"another process of this run has ended; its error is above, or in its own log ({first[:300]})."
    )
