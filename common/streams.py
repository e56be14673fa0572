"""Standard streams that may be closed, on a full disk, or of a terminal that is gone: a program never ends for a line it prints."""

import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

NAMES = ("stdin", "stdout", "stderr")
"""Attributes of `sys`, by file descriptor."""


class StreamFile(io.FileIO):
    """The file behind stdout or stderr; what the system does not take (full disk, lost terminal) is dropped.

    The run's results are in files of their own, whose errors are reported.
    """

    def __init__(self, descriptor: int, *, ignore_closed_pipe: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.ignore_closed_pipe = ignore_closed_pipe

    def write(self, data: Any, /) -> int:
        """Write all of `data`; wait where a non-blocking pipe is full. Raise BrokenPipeError unless it is to be ignored."""
        view = memoryview(data).cast("B")
        written = 0
        try:
            while written < len(view):
                count = super().write(view[written:])
                if count is None:
                    select.select([], [self], [])
                else:
                    written += count
        except BrokenPipeError:
            if not self.ignore_closed_pipe:
                raise
        except OSError:
            pass
        return len(view)


def prepare_streams(*, ignore_closed_pipe: bool = False) -> None:
    """Make stdin, stdout and stderr usable; entry points call it before they open a file.

    A closed descriptor becomes that of the null device: otherwise the next file that is opened would get its number, and everything
    that C code prints would end up in that file, a checkpoint perhaps. `sys.stdout` and `sys.stderr` drop what cannot be written
    and escape characters that their encoding lacks, also those of a path that is not valid text.
    """
    for number, name in enumerate(NAMES):
        _open_if_closed(number)
        stream: TextIO | None = getattr(sys, name)
        if stream is None or stream.closed:
            file = io.FileIO(number, "w" if number else "r", closefd=False)
            stream = io.TextIOWrapper(
                io.BufferedWriter(file) if number else io.BufferedReader(file),
                encoding="utf-8",
                errors="backslashreplace",
            )
            setattr(sys, name, stream)
        if number and isinstance(stream, io.TextIOWrapper) and _descriptor(stream) == number:
            setattr(sys, name, _without_errors(stream, number, ignore_closed_pipe=ignore_closed_pipe))


def _open_if_closed(number: int) -> None:
    """Open the null device as file descriptor `number`, which subprocesses inherit, if it is closed."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null == number:
            os.set_inheritable(number, True)
        else:
            os.dup2(null, number)
            os.close(null)


def _descriptor(stream: TextIO) -> int | None:
    """Return the file descriptor of a stream, or None if it has none."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def _without_errors(stream: io.TextIOWrapper, number: int, *, ignore_closed_pipe: bool) -> io.TextIOWrapper:
    """Return a stream to the same descriptor, with the same encoding and buffering, that raises no errors."""
    with suppress(OSError):
        stream.flush()
    file = StreamFile(number, ignore_closed_pipe=ignore_closed_pipe)
    return io.TextIOWrapper(
        file if stream.write_through else io.BufferedWriter(file),  # type: ignore[arg-type]
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
