"""Data sets of the Hugging Face Hub without the network: what reads results must not wait for it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

from common.paths import BUNDLED, is_local


@contextmanager
def without_downloads(source: object) -> Iterator[None]:
    """Make the Hugging Face libraries use their caches alone within the block, if `data.source` may be a data set of the Hub."""
    with ExitStack() as stack:
        if isinstance(source, str) and source not in BUNDLED and not is_local(source):
            import datasets.config
            from huggingface_hub import constants

            for module in (constants, datasets.config):
                stack.enter_context(mock.patch.object(module, "HF_HUB_OFFLINE", True))
        yield
