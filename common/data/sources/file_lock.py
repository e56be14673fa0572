"""A lock that one process of a node holds at a time while it builds or copies what others wait for."""

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.locks import try_lock

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2


@contextmanager
def hold_lock(path: Path, what: str | None = None) -> Iterator[None]:
    """Hold the lock of a file, which is created with its folder, once no other process holds it.

    With `what`, log that it is waited for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_logged = False
    while (descriptor := try_lock(path)) is None:
        if what is not None and not is_logged:
            _log.info("data: waiting for %s, which another process makes", what)
            is_logged = True
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        os.close(descriptor)
