"""Joined collections: the images of several, one after the other."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain

from common.data.images import ImageArray
from common.data.images.collections import Images
from common.data.images.decode import ImageDecoder


class JoinedImages:
    """The images of several collections in their order, such as labeled and unlabeled ones from different folders."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self.parts = tuple(parts)
        self._ends = list(accumulate(map(len, self.parts)))

    @property
    def decoder(self) -> ImageDecoder:
        """Return the decoder, which is that of every collection of a data source."""
        return self.parts[0].decoder

    def __len__(self) -> int:
        """Return the number of images."""
        return self._ends[-1]

    def _find(self, index: int) -> tuple[Images, int]:
        """Return the collection of image `index`, and its index there."""
        number = bisect_right(self._ends, index)
        return self.parts[number], index - (self._ends[number - 1] if number else 0)

    def decode(self, index: int) -> ImageArray:
        """Decode image `index` of all."""
        images, own = self._find(index)
        return images.decode(own)

    def name(self, index: int) -> str:
        """Return the name of image `index` in its collection."""
        images, own = self._find(index)
        return images.name(own)

    def file_names(self) -> list[str | None]:
        """Return the file names of all collections."""
        return list(chain.from_iterable(images.file_names() for images in self.parts))

    def image_ids(self) -> list[str]:
        """Return the ids of all collections; `Split.image_ids` numbers those that are equal."""
        return list(chain.from_iterable(images.image_ids() for images in self.parts))

    def content(self, index: int) -> bytes:
        """Return the content of image `index` in its collection."""
        images, own = self._find(index)
        return images.content(own)
