"""Reading token labels: the labels of a subset of a training set, by image index.

Shapes: h x w positions, k classes stored, B samples.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from common.data.splits.subset import Subset
from common.data.token_labels.files import TokenLabelsDescription, open_shard, read_description, shard_path
from common.errors import UserError
from common.paths import user_path


class TokenLabelBatch(NamedTuple):
    """Token labels of a batch, and the geometry of its views."""

    classes: Tensor
    """(B, h, w, k) int32 class indices."""
    probabilities: Tensor
    """(B, h, w, k) float16; the remainder to 1 is spread evenly over the other classes."""
    geometry: Tensor
    """(B, 2, 3) float32 maps from views to images (`parameters.view_affines`)."""


class TokenLabelSource(Protocol):
    """Interface from which a loader reads token labels."""

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the classes and probabilities of the images at `indices` of the loaded split."""
        ...


class TokenLabelFolder:
    """Token labels of a subset of a training set; every process and worker opens the shards it needs."""

    def __init__(self, folder: Path, description: TokenLabelsDescription, rows: np.ndarray) -> None:
        """Create the reader; `rows` has, for each image of the subset, its row counted over all shards."""
        self.folder, self.description, self.rows = folder, description, rows
        self._files: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without open files, for copies in worker processes."""
        return self.__dict__ | {"_files": {}}

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return (B, h, w, k) classes (int32) and probabilities (float16) of the images at `indices` of the subset."""
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

    def positions(self) -> np.ndarray:
        """Return the positions of all labeled images in the training set, (N,) int64 in the order of the rows."""
        shards = range(self.description.num_shards)
        return np.concatenate([self._open(shard).get_tensor("positions") for shard in shards])

    def _open(self, shard: int) -> Any:
        """Return the open, memory-mapped file of a shard."""
        if shard not in self._files:
            path = shard_path(self.folder, shard)
            try:
                self._files[shard] = open_shard(path)
            except (SafetensorError, OSError) as error:
                is_lost = isinstance(error, SafetensorError | FileNotFoundError)
                remedy = "Make the labels again." if is_lost else "They may be intact: give this process read access."
                raise UserError(f"token_labels.labels: {path} cannot be read ({error}). {remedy}") from error
        return self._files[shard]


def open_token_labels(folder: str | Path, subset: Subset, *, num_classes: int) -> TokenLabelFolder:
    """Open the token labels of a subset; raise UserError if they are of other images or missing for some of them.

    Labels of the complete training set can be used for every subset of it.
    """
    path = user_path(str(folder), "token_labels.labels")
    description = read_description(path)
    if description.fingerprint != subset.fingerprint:
        raise UserError(
            f"token_labels.labels {folder}: made by {description.teacher} for other training images (fingerprint"
            f" {description.fingerprint}) than these ({subset.fingerprint}). Make labels of this data with"
            " `python -m common.evaluation token_labels`."
        )
    if description.num_classes != num_classes:
        raise UserError(
            f"token_labels.labels {folder}: has {description.num_classes} classes, but the data has {num_classes}. Make the labels"
            " again."
        )
    positions = TokenLabelFolder(path, description, np.arange(description.num_images)).positions()
    rows = np.minimum(np.searchsorted(positions, subset.indices), len(positions) - 1)
    missing = subset.indices[positions[rows] != subset.indices]
    if len(missing):
        raise UserError(
            f"token_labels.labels {folder}: {len(missing)} of the {len(subset)} training images have no token labels, the first"
            f" at position {missing[0]} of the training set. Make labels with the data keys of this recipe."
        )
    return TokenLabelFolder(path, description, rows)
