"""What the log of a run says about its data, for a command that prints it itself."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

PACKAGE = "common.data"
"""Logger of everything that opens data."""


class _Lines(logging.Handler):
    """Keeps the messages as lines."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines = list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message, once."""
        if (line := record.getMessage()) not in self.lines:
            self.lines.append(line)


@contextmanager
def data_log() -> Iterator[list[str]]:
    """Collect what is logged about data within the `with` block, from the level INFO on; nothing of it is printed."""
    logger, handler = logging.getLogger(PACKAGE), _Lines()
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)
