"""Data sets of the Hugging Face Hub without the network: what reads results must not wait for it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from common.paths import BUNDLED, is_local
from common.servers import without_requests


@contextmanager
def without_downloads(source: object) -> Iterator[None]:
    """Make the Hugging Face libraries use their caches alone within the block, if `data.source` may be a data set of the Hub."""
    may_be_of_hub = isinstance(source, str) and source not in BUNDLED and not is_local(source)
    with without_requests() if may_be_of_hub else nullcontext():
        yield
