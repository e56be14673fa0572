"""What the log of a run says about its data, for a command that prints it itself."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PACKAGE = "common.data"
"""Logger of everything that opens data."""


class _Printer(logging.Handler):
    """Prints each message once."""

    def __init__(self, print_line: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._print_line, self._printed = print_line, set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message, unless it was printed before."""
        if (line := record.getMessage()) not in self._printed:
            self._printed.add(line)
            self._print_line(line)


@contextmanager
def data_log(print_line: Callable[[str], None]) -> Iterator[logging.Handler]:
    """Print what is logged about data within the `with` block, as it is logged: an error that ends the block comes after it.

    Yield the handler, whose level, INFO at first, may be changed. Nothing is printed elsewhere.
    """
    logger, handler = logging.getLogger(PACKAGE), _Printer(print_line)
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)
