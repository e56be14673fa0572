"""The meeting of a run's processes at MASTER_ADDR and MASTER_PORT: a failure is one message with the remedy."""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import ProcessError

RESOLVE_SECONDS = 60.0
"""How long a name may take to be resolved; that of a node that is just starting is not known at once."""
_POLL_SECONDS = 2.0


@contextmanager
def explained_rendezvous() -> Iterator[None]:
    """Raise a ProcessError if the processes of a run do not find each other within this context.

    The group of a single process needs no others, and its errors are not changed.
    """
    from torch.distributed import DistError

    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or "MASTER_ADDR" not in os.environ:
        yield
        return
    _check_port(os.environ.get("MASTER_PORT"))
    _resolve(os.environ["MASTER_ADDR"])
    try:
        yield
    except (DistError, OSError, RuntimeError, ValueError) as error:
        if not isinstance(error, (DistError, OSError)) and not _NETWORK.search(str(error)):
            raise
        raise ProcessError(_message(error)) from error


_NETWORK = re.compile(r"gloo|connect|socket|address|timed? ?out|rendezvous|MASTER_", re.IGNORECASE)
"""Words of the network in messages of plain RuntimeErrors and ValueErrors."""


def _check_port(port: str | None) -> None:
    """Raise ProcessError for what is no number of a port; torch names neither variable nor value."""
    if port and not (port.isdecimal() and int(port) < 2**16):
        raise ProcessError(f"MASTER_PORT = {port}: must be a number from 1 to 65535, the same for all processes.")


def _resolve(name: str) -> None:
    """Raise ProcessError for a name without an address; torch would try for as long as the process group may wait."""
    deadline = time.monotonic() + RESOLVE_SECONDS
    while True:
        try:
            socket.getaddrinfo(name, None)
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() > deadline:
                reason = error.strerror if isinstance(error, OSError) else error
                raise ProcessError(
                    f"MASTER_ADDR = {name}: this machine does not find its address ({reason}). Set MASTER_ADDR to the name or "
                    "the IP address of the machine of process 0."
                ) from error
        time.sleep(_POLL_SECONDS)


def _message(error: Exception) -> str:
    """Return the message for an error of the meeting."""
    variables = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")
    values = ", ".join(f"{name} = {os.environ.get(name, 'unset')}" for name in variables)
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if re.search(r"EADDRINUSE|address already in use", reason, re.IGNORECASE):
        return (
            f"{values}: the port is taken on this machine, by another run or program. Set another MASTER_PORT, the same for all "
            "processes; in a Slurm job, for example, MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))."
        )
    if re.search(r"EACCES|permission denied", reason, re.IGNORECASE):
        return (
            f"{values}: this port may not be used. Set MASTER_PORT to a number above 1023, the same for all processes."
        )
    return (
        f"{values}: the processes of this run do not find each other ({reason}). All of them must be started with the same "
        "MASTER_ADDR (the machine of process 0, reachable from the others), MASTER_PORT and WORLD_SIZE, and each with its RANK."
    )
