"""Image collections: encoded files on disk, decoded pixels in memory, and selections of them."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.images.decode import ImageDecoder
from common.data.images.storage_failures import read_file
from common.errors import UserError


class Images(Protocol):
    """An indexed collection of images, independent of the storage."""

    @property
    def decoder(self) -> ImageDecoder:
        """Return the decoder of the images, which holds their size limit."""

    def __len__(self) -> int:
        """Return the number of images."""

    def decode(self, index: int) -> ImageArray:
        """Return image `index` (H, W, C) as its decoder does; raise UserError with its name if it is corrupt or too large."""

    def name(self, index: int) -> str:
        """Return a name by which a user finds the image: a path, or a table and its row."""

    def file_names(self) -> list[str | None]:
        """Return the relative path of every image within the dataset, or None for images without one."""

    def image_ids(self) -> list[str]:
        """Return a name of every image that does not depend on where the dataset is: a relative path, or table and row."""

    def content(self, index: int) -> bytes:
        """Return the content of the image as bytes, for fingerprints; empty if it cannot be read.

        Raise ProcessError if the storage is at fault, or a limit.
        """


class FileImages:
    """Image files under one folder. The paths are one numpy array, which forked workers share without copies."""

    def __init__(self, root: Path, relative_paths: Sequence[str], *, decoder: ImageDecoder) -> None:
        self.decoder = decoder
        self._root = root
        self._paths = np.array([os.fsencode(path) for path in relative_paths], dtype=np.bytes_)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    def decode(self, index: int) -> ImageArray:
        """Read and decode file `index`."""
        name = self.name(index)
        try:
            data = read_file(self._path(index))
        except OSError as error:
            raise UserError(f"{name}: cannot be read ({error.strerror or error}). Restore or remove it.") from error
        return self.decoder.decode(data, name)

    def _path(self, index: int) -> Path:
        """Return the path of file `index`."""
        return self._root / os.fsdecode(self._paths[index])

    def name(self, index: int) -> str:
        """Return the path of file `index` as text that can be printed: bytes that are not UTF-8 become escapes."""
        return os.fsencode(self._path(index)).decode("utf-8", "backslashreplace")

    def file_names(self) -> list[str | None]:
        """Return the path of every file relative to the folder."""
        return [os.fsdecode(path) for path in self._paths.tolist()]

    def image_ids(self) -> list[str]:
        """Return the path of every file relative to the folder."""
        return [os.fsdecode(path) for path in self._paths.tolist()]

    def content(self, index: int) -> bytes:
        """Return the bytes of file `index`."""
        try:
            return read_file(self._path(index))
        except OSError:
            return b""


class PixelImages:
    """Decoded images in a few flat blocks, which forked workers share without copies.

    Block k holds the concatenated pixels, (H, W, C) each, of the images from index k * `block_length` on: in the channels and the
    depth of `decoder`. `shapes` is (N, 2): height and width of every image. `origin` is the collection the pixels were decoded
    from; it provides the names. Without an origin, `title` names the images. `corrupt` maps the indices of images that could not be
    decoded to their errors; they have no pixels. Images that exceed the size limit of `decoder` are treated as corrupt.
    """

    def __init__(
        self,
        blocks: Sequence[npt.NDArray[Any]],
        shapes: npt.NDArray[np.int64],
        *,
        block_length: int,
        decoder: ImageDecoder,
        origin: Images | None = None,
        title: str = "image",
        corrupt: Mapping[int, str] | None = None,
    ) -> None:
        self.decoder = decoder
        self._corrupt = dict(corrupt or {})
        self._blocks = list(blocks)
        self._shapes = shapes
        self._block_length = block_length
        self._ends = np.cumsum(decoder.channels * shapes[:, 0] * shapes[:, 1])
        self.origin = origin
        self._title = title
        self.num_bytes = sum(block.nbytes for block in self._blocks)
        assert sum(block.size for block in self._blocks) == (self._ends[-1] if len(shapes) else 0), (
            "the shapes must match the blocks"
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._shapes)

    def decode(self, index: int) -> ImageArray:
        """Return a view of image `index` in its block; do not write to it."""
        if index in self._corrupt:
            raise UserError(self._corrupt[index])
        height, width = self._shapes[index].tolist()
        problem = self.decoder.size_problem(height, width)
        if problem is not None:
            raise UserError(f"{self.name(index)}: {problem}")
        return self._view(index, height, width)

    def _view(self, index: int, height: int, width: int) -> ImageArray:
        """Return the (H, W, C) view of image `index`."""
        block, size = index // self._block_length, self.decoder.channels * height * width
        first = block * self._block_length
        start = int(self._ends[index]) - size - (int(self._ends[first - 1]) if first else 0)
        return self._blocks[block][start : start + size].reshape(height, width, -1)

    def name(self, index: int) -> str:
        """Return the name of image `index` in the origin, or the title and the index."""
        return self.origin.name(index) if self.origin is not None else f"{self._title} {index}"

    def file_names(self) -> list[str | None]:
        """Return the file names of the origin."""
        return self.origin.file_names() if self.origin is not None else [None] * len(self)

    def image_ids(self) -> list[str]:
        """Return the ids of the origin, so that caching does not change them; without an origin, the title and the index."""
        return self.origin.image_ids() if self.origin is not None else [self.name(i) for i in range(len(self))]

    def content(self, index: int) -> bytes:
        """Return the content of the origin, so that caching does not change fingerprints; without an origin, the pixels."""
        if self.origin is not None:
            return self.origin.content(index)
        return self._view(index, *self._shapes[index].tolist()).tobytes()


class SelectedImages:
    """A selection of images of another collection, reindexed."""

    def __init__(self, images: Images, indices: npt.NDArray[np.int64]) -> None:
        self.images = images
        self.indices = indices

    @property
    def decoder(self) -> ImageDecoder:
        """Return the decoder of the collection."""
        return self.images.decoder

    def __len__(self) -> int:
        """Return the number of selected images."""
        return len(self.indices)

    def decode(self, index: int) -> ImageArray:
        """Return the `index`-th selected image."""
        return self.images.decode(int(self.indices[index]))

    def name(self, index: int) -> str:
        """Return the name of the `index`-th selected image in its collection."""
        return self.images.name(int(self.indices[index]))

    def file_names(self) -> list[str | None]:
        """Return the file name of every selected image."""
        names = self.images.file_names()
        return [names[index] for index in self.indices.tolist()]

    def image_ids(self) -> list[str]:
        """Return the id of every selected image in its collection."""
        ids = self.images.image_ids()
        return [ids[index] for index in self.indices.tolist()]

    def content(self, index: int) -> bytes:
        """Return the content of the `index`-th selected image."""
        return self.images.content(int(self.indices[index]))


def content_hash(images: Images, *, sample: int = 256) -> str:
    """Return a hash of the number of images and the content of at most `sample` evenly spaced images."""
    digest = hashlib.blake2b(str(len(images)).encode(), digest_size=16)
    for index in np.unique(np.linspace(0, len(images) - 1, min(sample, len(images))).astype(np.int64)):
        digest.update(hashlib.blake2b(images.content(int(index)), digest_size=16).digest())
    return digest.hexdigest()
