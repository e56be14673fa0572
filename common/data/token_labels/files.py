"""Owns files of dense labels: for every image, the k likeliest classes at each place of a grid, as a teacher sees it.

A folder holds `labels.json`, which says what the labels are of, and shards of some thousand images in safetensors files,
whose rows are read one by one where a batch needs them: nothing is ever whole in memory. ImageNet-1k's 1.28 M images at
24 x 24 places and 5 classes take 14.8 GB, at 14 x 14 places 5.0 GB.
Shapes: N labelled images, h x w places, k classes kept, B samples.
"""

import errno
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from common.data.splits.subset import Subset
from common.errors import UserError
from common.files import flush, is_there
from common.tensor_files import check_readable

MANIFEST = "labels.json"
FORMAT = 1
MAX_CLASSES = 2**16
"""Class numbers are stored in 16 bits."""


class DenseLabels(NamedTuple):
    """Hold what a teacher saw in the images of a batch, and where the views lie in them."""

    classes: Tensor
    """(B, h, w, k) int32 class numbers."""
    probabilities: Tensor
    """(B, h, w, k) float16; what is missing to 1 belongs to the other classes in equal parts."""
    geometry: Tensor
    """(B, 2, 3) float32 maps from views to images (`parameters.view_affines`)."""


class DenseLabelSource(Protocol):
    """Stand for what a loader reads dense labels from."""

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the classes and the probabilities of these images of the split that is loaded."""
        ...


@dataclass(frozen=True, kw_only=True)
class DenseLabelsDescription:
    """Say what dense labels are of and how they were made: labels.json, and a line in every shard."""

    fingerprint: str
    """Of the whole training set, as its source holds it."""
    num_images: int
    """Labelled images N."""
    positions_hash: str
    """Hash of their positions in the training set."""
    num_classes: int
    teacher: str
    """What the recipe called the teacher."""
    teacher_hash: str
    """Hash of the teacher's weights."""
    image_size: int
    """Side of the images the teacher saw, in pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    grid: tuple[int, int]
    """h, w."""
    kept: int
    """k."""
    shard_images: int
    """Images of a shard; the last one may hold fewer."""
    format: int = FORMAT

    @property
    def num_shards(self) -> int:
        """Return the number of files."""
        return -(-self.num_images // self.shard_images)

    @property
    def num_bytes(self) -> int:
        """Return the size of all files: 2 bytes a class, 2 a probability."""
        return 4 * self.num_images * self.grid[0] * self.grid[1] * self.kept

    def text(self) -> str:
        """Return the description as JSON, the same for the same labels."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)


def shard_path(folder: Path, shard: int) -> Path:
    """Return the file of a shard."""
    return folder / f"labels-{shard:05d}.safetensors"


def shard_is_whole(path: Path, description: DenseLabelsDescription) -> bool:
    """Tell whether a shard is there already; raise UserError when the file holds other labels, is damaged or cannot be read."""
    try:
        if not is_there(path):
            return False
        with _open(path) as file:
            found = (file.metadata() or {}).get("description")
    except OSError as error:
        raise UserError(
            f"out: {path} cannot be read ({error.strerror or error}). It may be whole: let this process read it, and give the"
            " same command again."
        ) from error
    except SafetensorError as error:
        raise UserError(f"out: {path} is damaged ({error}). Delete the file, and it is made again.") from error
    if found != description.text():
        raise UserError(
            f"out: {path} holds dense labels of other images or another teacher. Name another folder, or delete this one."
        )
    return True


def _open(path: Path) -> Any:
    """Open a shard. FileNotFoundError is true: safetensors itself says so of every file that it cannot open."""
    check_readable(path)
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError as error:
        raise OSError(errno.EIO, "it could be opened, and then could not", str(path)) from error


def write_shard(
    path: Path,
    description: DenseLabelsDescription,
    *,
    positions: np.ndarray,
    classes: np.ndarray,
    probabilities: np.ndarray,
    num_right: int,
) -> None:
    """Write (n,) positions, (n, h, w, k) classes and probabilities as one file, whole or not at all.

    `num_right` counts the images whose mean over the places favours their own class.
    """
    tensors: dict[str, np.ndarray] = {
        "positions": np.ascontiguousarray(positions, dtype=np.int64),
        "classes": np.ascontiguousarray(classes, dtype=np.uint16),
        "probabilities": np.ascontiguousarray(probabilities, dtype=np.float16),
    }
    content = save(tensors, metadata={"description": description.text(), "num_right": str(num_right)})
    partial = path.with_name(f".{path.name}.writing")
    partial.unlink(missing_ok=True)  # a kill's, perhaps with other rights
    with partial.open("xb") as file:
        file.write(content)
    flush(partial)
    partial.replace(path)
    flush(path.parent)


def count_right(folder: Path, description: DenseLabelsDescription) -> int:
    """Return over all shards how many images' dense labels, averaged over the places, favour the image's own class."""
    total = 0
    for shard in range(description.num_shards):
        path = shard_path(folder, shard)
        try:
            with _open(path) as file:
                total += int(file.metadata()["num_right"])
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"out: {path} cannot be read ({error}). Give the same command again once it can."
            ) from error
    return total


class DenseLabelFolder:
    """Read the dense labels of a subset of a training set; every process and worker opens the shards it needs by itself."""

    def __init__(self, folder: Path, description: DenseLabelsDescription, rows: np.ndarray) -> None:
        """Take the folder, and for each image of the subset its row over all shards."""
        self.folder, self.description, self.rows = folder, description, rows
        self._files: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open files behind when a worker process takes a copy."""
        return self.__dict__ | {"_files": {}}

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return (B, h, w, k) classes (int32) and probabilities (float16) of these images of the subset."""
        classes, probabilities = [], []
        for index in indices:
            shard, row = divmod(int(self.rows[index]), self.description.shard_images)
            file = self._open(shard)
            classes.append(file.get_slice("classes")[row : row + 1])
            probabilities.append(file.get_slice("probabilities")[row : row + 1])
        return (
            torch.from_numpy(np.concatenate(classes).astype(np.int32)),
            torch.from_numpy(np.concatenate(probabilities)),
        )

    def _open(self, shard: int) -> Any:
        """Return the open, memory-mapped file of a shard."""
        if shard not in self._files:
            path = shard_path(self.folder, shard)
            try:
                self._files[shard] = _open(path)
            except (SafetensorError, OSError) as error:
                is_lost = isinstance(error, SafetensorError | FileNotFoundError)
                remedy = "Make the labels again." if is_lost else "They may be whole: let this process read them."
                raise UserError(f"token_labels.labels: {path} cannot be read ({error}). {remedy}") from error
        return self._files[shard]


def open_dense_labels(folder: str | Path, subset: Subset, *, num_classes: int) -> DenseLabelFolder:
    """Return the dense labels of a subset; raise UserError when they are of other images, or some have none.

    Labels of a whole training set serve every subset of it.
    """
    path = Path(folder)
    description = _read_description(path)
    if description.fingerprint != subset.fingerprint:
        raise UserError(
            f"token_labels.labels {folder}: made by {description.teacher} for other training images (fingerprint"
            f" {description.fingerprint}) than these ({subset.fingerprint}). Make labels of this data with the evaluation"
            " `token_labels`."
        )
    if description.num_classes != num_classes:
        raise UserError(
            f"token_labels.labels {folder}: of {description.num_classes} classes, the data has {num_classes}. Make them again."
        )
    reader = DenseLabelFolder(path, description, np.arange(description.num_images))
    shards = range(description.num_shards)
    positions = np.concatenate([reader._open(shard).get_tensor("positions") for shard in shards])
    rows = np.minimum(np.searchsorted(positions, subset.indices), len(positions) - 1)
    without = subset.indices[positions[rows] != subset.indices]
    if len(without):
        raise UserError(
            f"token_labels.labels {folder}: {len(without)} of the {len(subset)} training images have no dense labels, the first"
            f" at position {without[0]} of the training set. Make labels with the data keys of this recipe."
        )
    return DenseLabelFolder(path, description, rows)


def _read_description(folder: Path) -> DenseLabelsDescription:
    """Return what labels.json says."""
    try:
        mapping = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = DenseLabelsDescription(
            **mapping | {"grid": tuple(mapping["grid"]), "mean": tuple(mapping["mean"]), "std": tuple(mapping["std"])}
        )
    except FileNotFoundError as error:
        raise UserError(
            f"token_labels.labels {folder}: no finished folder of dense labels ({MANIFEST}: {error.strerror}). Make one with the"
            " evaluation `token_labels`, or let it come to its end."
        ) from error
    except OSError as error:
        raise UserError(
            f"token_labels.labels {folder}: {MANIFEST} cannot be read ({error.strerror or error}). It may be whole: let this"
            " process read it."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"token_labels.labels {folder}: {MANIFEST} is no such file ({error!r}). Make the labels again."
        ) from error
    if found.format != FORMAT:
        raise UserError(
            f"token_labels.labels {folder}: of format {found.format}, and format {FORMAT} is read here. Make the labels again."
        )
    return found
