"""Whether servers can be reached: the Hugging Face libraries repeat requests for up to a minute without a connection."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

_SECONDS = 4.0
"""Time in which a server must answer."""


def why_unreachable(url: str) -> tuple[str, BaseException | None] | None:
    """Return None if the server of a URL answers within a few seconds, through a proxy if one is set; otherwise why not."""
    answer: list[BaseException | None] = []
    thread = threading.Thread(target=lambda: answer.append(_ask(url)), daemon=True)  # name look-ups have no time limit
    thread.start()
    thread.join(_SECONDS)
    if not answer:
        return f"{url} does not answer within {_SECONDS:g} seconds", None
    return None if answer[0] is None else (f"{url} cannot be reached: {answer[0]}", answer[0])


def _ask(url: str) -> BaseException | None:
    """Return None if a server answers, whatever it answers, otherwise the error; the Hub is asked as its own client asks it."""
    from huggingface_hub import constants, get_session

    try:
        if url == constants.ENDPOINT:
            get_session().head(url, timeout=_SECONDS - 0.5)
            return None
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS - 0.5):
            return None
    except urllib.error.HTTPError:
        return None
    except Exception as error:  # also http.client's; a wrong certificate counts as no answer
        return getattr(error, "reason", None) if isinstance(getattr(error, "reason", None), BaseException) else error


@contextmanager
def without_requests() -> Iterator[None]:
    """Make the Hugging Face libraries use their caches alone within the block; not for several threads at a time."""
    import datasets.config
    from huggingface_hub import constants

    with ExitStack() as stack:
        for module in (constants, datasets.config):
            stack.enter_context(mock.patch.object(module, "HF_HUB_OFFLINE", True))
        yield
