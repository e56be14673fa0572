"""Owns tables of encoded images: what Hugging Face's datasets reads from parquet, arrow, save_to_disk and the hub."""

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from common.data.images.decode import decode_image
from common.data.sources.columns import UNLABELLED, are_classes, find_image_column, find_label_column, read_labels
from common.data.sources.split import Split
from common.errors import UserError


class Part(NamedTuple):
    """A run of rows of a split that came from one file, named by it."""

    title: str
    num_rows: int


class TableImages:
    """The encoded images of one column, read straight from the memory-mapped Arrow table; nothing is decoded ahead."""

    def __init__(self, dataset: Any, column: str, parts: tuple[Part, ...], base: Path) -> None:
        self._dataset = dataset
        self._column = column
        self._parts = parts
        self._part_ends = list(accumulate(part.num_rows for part in parts))
        self._base = base
        self._open()

    def _open(self) -> None:
        """Find the column's chunks, split into bytes and paths, and where each ends."""
        chunks = [chunk for chunk in self._dataset.data.column(self._column).chunks if len(chunk)]
        self._chunks = [_bytes_and_paths(chunk) for chunk in chunks]
        self._chunk_ends = list(accumulate(len(chunk) for chunk in chunks))
        assert (self._chunk_ends or [0])[-1] == len(self._dataset), "the table must not be reordered"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the chunks out: a worker process maps the files itself instead of getting a copy of their bytes."""
        return {key: value for key, value in self.__dict__.items() if key not in ("_chunks", "_chunk_ends")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the files again."""
        self.__dict__.update(state)
        self._open()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._dataset)

    def decode(self, index: int, *, max_pixels: int) -> Tensor:
        """Decode the image of row `index`."""
        return decode_image(self._read(index), self.name(index), max_pixels=max_pixels)

    def name(self, index: int) -> str:
        """Return the file and the row in it, counted from 0."""
        part = bisect_right(self._part_ends, index)
        return f"{self._parts[part].title} row {index - (self._part_ends[part - 1] if part else 0)}"

    def file_name(self, index: int) -> str | None:
        """Return the path that the row keeps beside the bytes."""
        return self._row(index)[1]

    def file_names(self) -> list[str | None]:
        """Return the path that each row keeps beside its bytes."""
        names: list[str | None] = []
        for data, paths in self._chunks:
            names += [None] * len(data) if paths is None else paths.to_pylist()
        return names

    def content(self, index: int) -> bytes:
        """Return the encoded bytes of row `index`."""
        try:
            return self._read(index)
        except UserError:
            return b""

    def _row(self, index: int) -> tuple[bytes | None, str | None]:
        """Return the bytes and the path of row `index`."""
        number = bisect_right(self._chunk_ends, index)
        data, paths = self._chunks[number]
        row = index - (self._chunk_ends[number - 1] if number else 0)
        return data[row].as_py(), None if paths is None else paths[row].as_py()

    def _read(self, index: int) -> bytes:
        """Return the encoded bytes of row `index`, from the file it points to where it holds none."""
        data, path = self._row(index)
        if data is not None:
            return data
        if path is None:
            raise UserError(f"{self.name(index)}: the row holds no image. Remove it.")
        try:
            return (self._base / path).read_bytes()
        except OSError as error:
            raise UserError(
                f"{self.name(index)}: the row holds no bytes, only the path {path}, which cannot be read"
                f" ({error.strerror or error}). Embed the images with datasets.table.embed_table_storage when writing."
            ) from error


def _bytes_and_paths(chunk: Any) -> tuple[Any, Any | None]:
    """Return the Arrow arrays of bytes and of paths, None where there are none, of a chunk of an image column."""
    import pyarrow

    if not pyarrow.types.is_struct(chunk.type):
        return chunk, None
    fields = dict(
        zip([chunk.type.field(number).name for number in range(chunk.type.num_fields)], chunk.flatten(), strict=True)
    )
    return fields["bytes"], fields.get("path")


class TableSource:
    """Splits of Hugging Face data sets. `base` is the folder that paths in rows begin at."""

    def __init__(
        self,
        title: str,
        datasets: Mapping[str, Any],
        parts: Mapping[str, tuple[Part, ...]],
        *,
        image_column: str | None,
        label_column: str | None,
        base: Path,
    ) -> None:
        self.title = title
        self._datasets = datasets
        self._parts = parts
        self._image_column = image_column
        self._label_column = label_column
        self._base = base

    def names(self) -> tuple[str, ...]:
        """Return the names of the splits."""
        return tuple(self._datasets)

    def read(self, name: str, *, labelled: bool) -> Split:
        """Return split `name` with its labels; raise UserError when its columns cannot be told, or labels are missing.

        Where labels are not demanded, a split of which some or all images have none comes without labels.
        """
        dataset = self._datasets[name]
        title = f"the split '{name}' of {self.title}"
        column = find_image_column(dataset.features, self._image_column, title=title)
        images = TableImages(dataset, column, self._parts[name], self._base)
        rest = {key: feature for key, feature in dataset.features.items() if key != column}
        label_column = find_label_column(rest, self._label_column, labelled=labelled, title=title)
        unlabelled = Split(images=images, labels=None, class_names=())
        if label_column is None:
            return unlabelled
        labels, class_names = read_labels(
            dataset.data.column(label_column),
            rest[label_column],
            title=f"data.label_column: the column '{label_column}' of {title}",
        )
        missing = int(np.count_nonzero(labels == UNLABELLED))
        if missing and not labelled:
            return unlabelled
        if missing:
            first = images.name(int(np.argmax(labels == UNLABELLED)))
            raise UserError(
                f"data.label_column: {missing} of {len(labels)} images of {title} have no label in the column"
                f" '{label_column}', the first is {first}. Remove them, or name another split or column."
            )
        if self._label_column is None and not are_classes(
            len(labels), int(np.count_nonzero(np.bincount(labels))), label_column, labelled=labelled, title=title
        ):
            return unlabelled
        return Split(images=images, labels=labels, class_names=class_names)
