"""Owns the image collections a split reads from: encoded files on disk, and decoded pixels held in memory."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from common.data.images.decode import decode_image
from common.errors import UserError


class Images(Protocol):
    """A numbered collection of images, whatever it is stored in."""

    def __len__(self) -> int:
        """Return the number of images."""

    def decode(self, index: int, *, max_pixels: int) -> Tensor:
        """Return image `index` as uint8 RGB (3, H, W); raise UserError with its name when it is broken or larger."""

    def name(self, index: int) -> str:
        """Return what a user would look for: a path, or a file and its row."""

    def file_name(self, index: int) -> str | None:
        """Return the relative path the data set itself gives the image, or None where it has none."""

    def file_names(self) -> list[str | None]:
        """Return `file_name` of every image."""

    def content(self, index: int) -> bytes:
        """Return bytes that stand for the image's content, for fingerprints; empty when it cannot be read."""


class FileImages:
    """Image files under one folder. Paths are kept in one numpy array, which forked workers share without copies."""

    def __init__(self, root: Path, relative_paths: Sequence[str]) -> None:
        self._root = root
        self._paths = np.array([os.fsencode(path) for path in relative_paths], dtype=np.bytes_)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._paths)

    def decode(self, index: int, *, max_pixels: int) -> Tensor:
        """Read and decode file `index`."""
        name = self.name(index)
        try:
            data = Path(name).read_bytes()
        except OSError as error:
            raise UserError(f"{name}: cannot be read ({error.strerror or error}). Restore or remove it.") from error
        return decode_image(data, name, max_pixels=max_pixels)

    def name(self, index: int) -> str:
        """Return the path of file `index`."""
        return str(self._root / self.file_name(index))

    def file_name(self, index: int) -> str:
        """Return the path of file `index` below the folder."""
        return os.fsdecode(self._paths[index])

    def file_names(self) -> list[str | None]:
        """Return the path of every file below the folder."""
        return [os.fsdecode(path) for path in self._paths.tolist()]

    def content(self, index: int) -> bytes:
        """Return the bytes of file `index`."""
        try:
            return Path(self.name(index)).read_bytes()
        except OSError:
            return b""


class PixelImages:
    """Decoded images in a few flat uint8 blocks, which forked workers share without copies.

    Block k holds the images from k * `block_length` on, (3, H, W) each, one behind the other; `shapes` is (N, 2):
    height and width of every image. `origin` is the collection the pixels were decoded from, for names; `title` names
    the images where there is none. `broken` are the errors of images that could not be decoded; they have no pixels.
    """

    def __init__(
        self,
        blocks: Sequence[npt.NDArray[np.uint8]],
        shapes: npt.NDArray[np.int64],
        *,
        block_length: int,
        origin: Images | None = None,
        title: str = "image",
        broken: Mapping[int, str] | None = None,
    ) -> None:
        self._broken = dict(broken or {})
        self._blocks = list(blocks)
        self._shapes = shapes
        self._block_length = block_length
        self._ends = np.cumsum(3 * shapes[:, 0] * shapes[:, 1])
        self._origin = origin
        self._title = title
        self.num_bytes = sum(block.size for block in self._blocks)
        assert self.num_bytes == (self._ends[-1] if len(shapes) else 0), "the shapes must cover the blocks"

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._shapes)

    def decode(self, index: int, *, max_pixels: int) -> Tensor:
        """Return a view of image `index` in its block; it is not to be written to. Its size was bounded before."""
        if index in self._broken:
            raise UserError(self._broken[index])
        return self._pixels(index)

    def _pixels(self, index: int) -> Tensor:
        """Return the (3, H, W) view of image `index`."""
        height, width = self._shapes[index].tolist()
        block, size = index // self._block_length, 3 * height * width
        first = block * self._block_length
        start = int(self._ends[index]) - size - (int(self._ends[first - 1]) if first else 0)
        return torch.from_numpy(self._blocks[block][start : start + size]).view(3, height, width)

    def name(self, index: int) -> str:
        """Return the origin's name of image `index`."""
        return self._origin.name(index) if self._origin is not None else f"{self._title} {index}"

    def file_name(self, index: int) -> str | None:
        """Return the origin's file name of image `index`."""
        return self._origin.file_name(index) if self._origin is not None else None

    def file_names(self) -> list[str | None]:
        """Return the origin's file names."""
        return self._origin.file_names() if self._origin is not None else [None] * len(self)

    def content(self, index: int) -> bytes:
        """Return the origin's content, so that caching changes no fingerprint, or else the pixels."""
        return self._origin.content(index) if self._origin is not None else self._pixels(index).numpy().tobytes()


class SelectedImages:
    """Some images of another collection, renumbered."""

    def __init__(self, images: Images, indices: npt.NDArray[np.int64]) -> None:
        self.images = images
        self.indices = indices

    def __len__(self) -> int:
        """Return the number of selected images."""
        return len(self.indices)

    def decode(self, index: int, *, max_pixels: int) -> Tensor:
        """Return the `index`-th selected image."""
        return self.images.decode(int(self.indices[index]), max_pixels=max_pixels)

    def name(self, index: int) -> str:
        """Return the name of the `index`-th selected image in its own collection."""
        return self.images.name(int(self.indices[index]))

    def file_name(self, index: int) -> str | None:
        """Return the file name of the `index`-th selected image."""
        return self.images.file_name(int(self.indices[index]))

    def file_names(self) -> list[str | None]:
        """Return the file name of every selected image."""
        names = self.images.file_names()
        return [names[index] for index in self.indices.tolist()]

    def content(self, index: int) -> bytes:
        """Return the content of the `index`-th selected image."""
        return self.images.content(int(self.indices[index]))


def content_hash(images: Images, *, sample: int = 256) -> str:
    """Return a hash over the number of images and the content of at most `sample` evenly spaced ones."""
    digest = hashlib.blake2b(str(len(images)).encode(), digest_size=16)
    for index in np.unique(np.linspace(0, len(images) - 1, min(sample, len(images))).astype(np.int64)):
        digest.update(hashlib.blake2b(images.content(int(index)), digest_size=16).digest())
    return digest.hexdigest()
