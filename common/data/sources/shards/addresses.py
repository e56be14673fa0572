"""Addresses of several shards in one text, as webdataset writes them, and addresses as messages show them."""

import re
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from common.errors import UserError

_BRACES = re.compile(r"(.*)\{([^{}]*)\}(.*)")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MAX_SHARDS = 100_000


def expand_braces(text: str) -> list[str]:
    """Return the texts that `{0000..1023}` (numbers of that width) and `{train,validation}` stand for, sorted, each once.

    Braces may be nested. Raise UserError for an empty range, and for more than 100,000 texts.
    """
    done, pending = dict[str, None](), [text]
    while pending:
        each = pending.pop()
        if (match := _BRACES.fullmatch(each)) is None:
            done[each] = None
            continue
        before, inside, after = match.groups()
        parts = _numbers(inside, text) if _RANGE.fullmatch(inside) else inside.split(",")
        if len(done) + len(pending) + len(parts) > _MAX_SHARDS:
            raise _too_many(text)
        pending += [f"{before}{part}{after}" for part in parts]
    return sorted(done)


def shown_address(address: str) -> str:
    """Return an address without what may be secret: user and password, and the query, which signs presigned addresses.

    >>> shown_address("https://me:word@host/train.tar?X-Amz-Signature=0f3a")
    'https://host/train.tar?...'
    """
    url = urlsplit(address)
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "..." if url.query else "", ""))


def shown_value(value: Any) -> Any:
    """Return a value of a recipe as messages and trackers show it: an address without what may be secret."""
    is_address = isinstance(value, str) and value.startswith(("http://", "https://"))
    return shown_address(value) if is_address else value


def _numbers(inside: str, text: str) -> list[str]:
    """Return the numbers of a range, of at least as many digits as its first; raise UserError for an empty range."""
    first, last = inside.split("..")
    if int(last) < int(first):
        raise UserError(f"data.source '{shown_address(text)}': {{{inside}}} is empty. Write the smaller number first.")
    if int(last) - int(first) >= _MAX_SHARDS:
        raise _too_many(text)
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _too_many(text: str) -> UserError:
    return UserError(
        f"data.source '{shown_address(text)}' stands for more than {_MAX_SHARDS} shards. Correct the numbers in braces."
    )
