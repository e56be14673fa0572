"""Encoded images in tar shards, each read by its position: no shard is unpacked or read as a whole."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.images.decode import ImageDecoder
from common.data.images.storage_failures import raise_storage_failure
from common.data.sources.shards.fetching import FetchedShard
from common.data.sources.shards.index import ShardIndex
from common.data.sources.shards.places import LocalShard, ShardChanged, ShardPlace
from common.errors import ProcessError, UserError


class TarImages:
    """The images of an index, named by their shards and read from their copies, if there are any.

    A shard is opened for each image, as files of an image folder are: a process may not have thousands of shards open.
    """

    def __init__(
        self,
        index: ShardIndex,
        folder: Path,
        shards: Sequence[ShardPlace],
        *,
        decoder: ImageDecoder,
        copies: Sequence[ShardPlace] | None = None,
    ) -> None:
        """Take the index, the folder it is stored in, and the shards."""
        self.decoder = decoder
        self._index, self._folder, self._shards = index, folder, tuple(shards)
        self._copies = self._shards if copies is None else tuple(copies)

    def copied_as_read(self) -> "TarImages":
        """Return the same images, of which those of a server's shards are copied to the node as they are read."""
        shards = [shard.fetching() if isinstance(shard, FetchedShard) else shard for shard in self._shards]
        copies = None if self._copies is self._shards else self._copies
        return TarImages(self._index, self._folder, shards, decoder=self.decoder, copies=copies)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the arrays: a worker process maps them itself instead of receiving a copy."""
        return {key: value for key, value in self.__dict__.items() if key != "_index"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state and map the index again."""
        self.__dict__.update(state)
        self._index = ShardIndex.load(self._folder)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._index)

    def decode(self, index: int) -> ImageArray:
        """Read and decode an image."""
        return self.decoder.decode(self._read(index), self.name(index))

    def name(self, index: int) -> str:
        """Return the path of the shard and the name of the image in it."""
        shard, _, _ = self._index.place(index)
        name = f"{self._shards[shard].title} member {self._index.name(index)}"
        return os.fsencode(name).decode("utf-8", "backslashreplace")

    def file_names(self) -> list[str | None]:
        """Return the path of each image within its shard."""
        return [*self._index.all_names()]

    def image_ids(self) -> list[str]:
        """Return the path of each image within its shard."""
        return self._index.all_names()

    def shard_numbers(self) -> npt.NDArray[np.int64]:
        """Return the number of each image's shard."""
        return self._index.shard_numbers()

    def content(self, index: int) -> bytes:
        """Return the encoded bytes of an image, none of a damaged one; raise ProcessError if a server fails to send them."""
        try:
            return self._read(index)
        except ProcessError:
            raise
        except UserError:
            return b""

    def _read(self, index: int) -> bytes:
        """Return the encoded bytes of an image; raise UserError if the shard cannot be read or has become shorter."""
        shard, offset, size = self._index.place(index)
        try:
            data = self._copies[shard].read(offset, size)
        except OSError as error:
            words = f"{self.name(index)}: cannot be read{self._place(shard)} ({error.strerror or error})."
            if isinstance(self._shards[shard], LocalShard):
                raise_storage_failure(error, self.name(index))
                raise UserError(f"{words} Restore it.") from error
            when = "" if isinstance(error, ShardChanged) else " when the server answers"
            raise ProcessError(f"{words} Start the run again{when}.") from error
        if len(data) < size:
            raise UserError(
                f"{self.name(index)}: the shard{self._place(shard)} ends before the image does. Copy it again."
            )
        return data

    def _place(self, shard: int) -> str:
        """Return in words where a shard is read, if that is a copy."""
        return "" if self._copies is self._shards else f" in its copy {self._copies[shard].title}"
