"""Files of token labels: a teacher's top-k classes and probabilities at each position of a grid, for every image.

A folder has `labels.json`, which describes the labels, and safetensors shards of a few thousand images each. Rows are read one at a
time as a batch needs them, so the labels never have to fit in memory. ImageNet-1k's 1.28 M images take 14.8 GB at 24 x 24 positions
and 5 classes, 5.0 GB at 14 x 14 positions.
Shapes: N labeled images, h x w positions, k classes stored.
"""

import errno
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from common.errors import UserError
from common.files import path_exists, write_atomic
from common.json_text import to_json
from common.tensor_files import check_readable

MANIFEST = "labels.json"
FORMAT = 1
MAX_CLASSES = 2**16
"""Class indices are stored in 16 bits."""


@dataclass(frozen=True, kw_only=True)
class TokenLabelsDescription:
    """Description of token labels: their images and how they were made. Stored in labels.json and in every shard's metadata."""

    fingerprint: str
    """Fingerprint of the source's complete training set."""
    num_images: int
    """Number of labeled images N."""
    positions_hash: str
    """Hash of the images' positions in the training set."""
    num_classes: int
    teacher: str
    """Name of the teacher in the recipe."""
    teacher_hash: str
    """Hash of the teacher's weights."""
    image_size: int
    """Side of the teacher's input images, in pixels."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    grid: tuple[int, int]
    """h, w."""
    kept: int
    """k."""
    shard_images: int
    """Images per shard; the last shard may have fewer."""
    format: int = FORMAT

    @property
    def num_shards(self) -> int:
        """Return the number of shards."""
        return -(-self.num_images // self.shard_images)

    @property
    def num_bytes(self) -> int:
        """Return the total size of the shards: 2 bytes per class and 2 per probability."""
        return 4 * self.num_images * self.grid[0] * self.grid[1] * self.kept

    def text(self) -> str:
        """Return the description as JSON, identical for identical labels."""
        return to_json(asdict(self), indent=2, sort_keys=True)

    def has_same_labels(self, text: str) -> bool:
        """Return whether a description as `text` is of the same labels. The teacher's path may differ, not its weights."""
        try:
            found = json.loads(text)
            return bool({**found, "teacher": self.teacher} == json.loads(self.text()))
        except (ValueError, TypeError, RecursionError):
            return False


def shard_path(folder: Path, shard: int) -> Path:
    """Return the path of a shard."""
    return folder / f"labels-{shard:05d}.safetensors"


def shard_is_complete(path: Path, description: TokenLabelsDescription) -> bool:
    """Return whether a shard exists; raise UserError if it has other labels, is damaged or cannot be read."""
    try:
        if not path_exists(path):
            return False
        with open_shard(path) as file:
            found = (file.metadata() or {}).get("description")
    except OSError as error:
        raise UserError(
            f"out: {path} cannot be read ({error.strerror or error}). It may be intact: give this process read access and run the"
            " same command again."
        ) from error
    except SafetensorError as error:
        raise UserError(f"out: {path} is damaged ({error}). Delete the file; it is then written again.") from error
    if found is None or not description.has_same_labels(found):
        raise UserError(
            f"out: {path} has token labels of other images or another teacher. Use another folder, or delete this one."
        )
    return True


def open_shard(path: Path) -> Any:
    """Open a shard. FileNotFoundError means that the file is missing; safetensors alone raises it for any file it cannot open."""
    check_readable(path)
    try:
        return safe_open(path, framework="numpy")
    except FileNotFoundError as error:
        raise OSError(errno.EIO, "the file could not be opened again", str(path)) from error


def write_shard(
    path: Path,
    description: TokenLabelsDescription,
    *,
    positions: np.ndarray,
    classes: np.ndarray,
    probabilities: np.ndarray,
    num_correct: int,
) -> None:
    """Write (n,) positions, (n, h, w, k) classes and probabilities to one file, atomically.

    `num_correct` counts the images whose own class has the highest probability, averaged over the positions.
    """
    tensors: dict[str, np.ndarray] = {
        "positions": np.ascontiguousarray(positions, dtype=np.int64),
        "classes": np.ascontiguousarray(classes, dtype=np.uint16),
        "probabilities": np.ascontiguousarray(probabilities, dtype=np.float16),
    }
    content = save(tensors, metadata={"description": description.text(), "num_right": str(num_correct)})
    write_atomic(path, content)


def count_correct(folder: Path, description: TokenLabelsDescription) -> int:
    """Return the number of images, over all shards, whose own class has the highest probability, averaged over the positions."""
    total = 0
    for shard in range(description.num_shards):
        path = shard_path(folder, shard)
        try:
            with open_shard(path) as file:
                total += int(file.metadata()["num_right"])
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"out: {path} cannot be read ({error}). Make it readable and run the same command again."
            ) from error
    return total


def read_description(folder: Path) -> TokenLabelsDescription:
    """Read and check labels.json."""
    try:
        mapping = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        found = TokenLabelsDescription(
            **mapping | {"grid": tuple(mapping["grid"]), "mean": tuple(mapping["mean"]), "std": tuple(mapping["std"])}
        )
    except FileNotFoundError as error:
        raise UserError(
            f"token_labels.labels {folder}: no finished folder of token labels ({MANIFEST}: {error.strerror}). Create or finish it"
            " with `python -m common.evaluation token_labels`."
        ) from error
    except OSError as error:
        raise UserError(
            f"token_labels.labels {folder}: {MANIFEST} cannot be read ({error.strerror or error}). It may be intact: give this"
            " process read access."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"token_labels.labels {folder}: {MANIFEST} is not a valid description ({error!r}). Make the labels again."
        ) from error
    if found.format != FORMAT:
        raise UserError(
            f"token_labels.labels {folder}: has format {found.format}, but format {FORMAT} is supported. Make the labels again."
        )
    return found
