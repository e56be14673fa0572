"""Errors of a run with several processes: printed once if all have them, with rank and host if only one has."""

import signal
import socket
import sys
import time

PATIENCE_SECONDS = 3.0
"""Time in which the launcher ends this process if the main process has failed in the same way."""


def place(rank: int) -> str:
    """Return a rank with this machine's name, for error messages."""
    return f"rank {rank} on {socket.gethostname()}"


def print_error(message: str, rank: int, *, is_shared: bool = False, is_own: bool = False) -> None:
    """Print the error that ends the process of a rank; `is_shared` if all processes have it, and the main process prints it.

    `is_own` if it can only be this process's: it is printed at once. Otherwise another process cannot know whether the main process
    fails in the same way. If it does, the launcher ends this one by SIGTERM while it waits.
    """
    if rank == 0:
        print(f"error: {message}", file=sys.stderr)
    elif not is_shared:
        if not is_own:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            time.sleep(PATIENCE_SECONDS)
        print(f"{place(rank)}: error: {message}", file=sys.stderr)
