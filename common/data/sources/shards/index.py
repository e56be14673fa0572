"""Index of the samples of tar shards: where each image lies, its name and its label, in arrays that processes map and share."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.sources.label_values import read_labels
from common.data.sources.shards.samples import Sample
from common.files import fsync
from common.json_text import to_json

CLASSES_FILE = "classes.json"
_ARRAYS = ("shard_ends", "offsets", "sizes", "labels", "name_ends", "names")


@dataclass(frozen=True, kw_only=True)
class ShardIndex:
    """The N samples of S shards, in the order of the shards. Arrays that were loaded are mapped: no process has a copy.

    An index of 14 million images takes 28 bytes for each and its name.
    """

    shard_ends: npt.NDArray[np.int64]
    """(S,) number of samples up to the end of each shard."""
    offsets: npt.NDArray[np.int64]
    """(N,) position of the encoded image in its shard, in bytes."""
    sizes: npt.NDArray[np.int64]
    """(N,) length of the encoded image in bytes."""
    labels: npt.NDArray[np.int32]
    """(N,) indices of the classes; UNLABELED for a sample without a label."""
    name_ends: npt.NDArray[np.int64]
    """(N,) ends of the samples' names in `names`."""
    names: npt.NDArray[np.uint8]
    """The samples' names, one after the other: paths of the images within their shards, as the tar files store them."""
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.offsets)

    def name(self, index: int) -> str:
        """Return the name of a sample."""
        start = int(self.name_ends[index - 1]) if index else 0
        return self.names[start : self.name_ends[index]].tobytes().decode("utf-8", "surrogateescape")

    def all_names(self) -> list[str]:
        """Return the names of all samples."""
        text, starts = self.names.tobytes(), [0, *self.name_ends.tolist()]
        return [
            text[start:end].decode("utf-8", "surrogateescape") for start, end in zip(starts, starts[1:], strict=False)
        ]

    def place(self, index: int) -> tuple[int, int, int]:
        """Return the shard of a sample, and the position and the length of its image there, in bytes."""
        shard = int(np.searchsorted(self.shard_ends, index, side="right"))
        return shard, int(self.offsets[index]), int(self.sizes[index])

    def shard_numbers(self) -> npt.NDArray[np.int64]:
        """Return (N,) the number of each sample's shard."""
        return np.repeat(np.arange(len(self.shard_ends)), np.diff(self.shard_ends, prepend=0))

    def save(self, folder: Path) -> None:
        """Write the arrays and the names of the classes into a folder."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        (folder / CLASSES_FILE).write_text(to_json(self.class_names), encoding="utf-8")
        for path in folder.iterdir():
            fsync(path)

    @classmethod
    def load(cls, folder: Path) -> "ShardIndex":
        """Return the index in a folder, mapped; raise OSError or ValueError if it is incomplete."""
        arrays: dict[str, Any] = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        names = json.loads((folder / CLASSES_FILE).read_text(encoding="utf-8"))
        return cls(**arrays, class_names=tuple(names))


class ShardPart:
    """The samples of one shard in compact arrays: what a large index is put together from."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        import pyarrow

        found = list(samples)
        names = [sample.image.name.encode("utf-8", "surrogateescape") for sample in found]
        self.offsets = np.array([sample.image.offset for sample in found], np.int64)
        self.sizes = np.array([sample.image.size for sample in found], np.int64)
        self.name_lengths = np.array([len(name) for name in names], np.int64)
        self.names = b"".join(names)
        self.labels = pyarrow.array([sample.label for sample in found], pyarrow.string())


def build_index(parts: Sequence[ShardPart]) -> ShardIndex:
    """Return the index of shards, given those of each.

    Classes are the distinct labels, in the order of the numbers if all are whole numbers, otherwise of the texts; a label that is a
    negative number is none.
    """
    import pyarrow

    column = pyarrow.chunked_array([part.labels for part in parts], pyarrow.string())
    if all(_is_number(text) for text in column.unique().to_pylist() if text is not None):
        column = column.cast(pyarrow.int64())
    labels, class_names = read_labels(column, None, title="data.label_column")
    return ShardIndex(
        shard_ends=np.cumsum([len(part.offsets) for part in parts], dtype=np.int64),
        offsets=np.concatenate([part.offsets for part in parts]),
        sizes=np.concatenate([part.sizes for part in parts]),
        labels=labels.astype(np.int32),
        name_ends=np.cumsum(np.concatenate([part.name_lengths for part in parts])),
        names=np.frombuffer(b"".join(part.names for part in parts), np.uint8),
        class_names=class_names,
    )


def _is_number(text: str) -> bool:
    """Return whether a label is a whole number in decimal digits, of at most 18."""
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdigit() and len(text) <= 18
