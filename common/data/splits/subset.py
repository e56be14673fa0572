"""Owns label subsets: nested and class-stratified, by fraction, number or published list, and their manifests."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.data.sources.split import Split
from common.data.splits.file_names import match_file_names
from common.data.splits.stratified import Indices, class_prefixes
from common.errors import UserError, some
from common.files import write_whole
from common.paths import user_path


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Some images of a training set.

    indices: (n,) int64, sorted, positions in the training set as its source holds it; num_images: the size of that
    training set; class_counts: images per class name; fingerprint: that of the training set ("" when it is not known).
    """

    indices: Indices
    num_images: int
    class_counts: dict[str, int]
    fraction: float | None = None
    images_per_class: int | None = None
    seed: int | None = None
    fingerprint: str = ""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.indices)

    @property
    def hash(self) -> str:
        """Return a hash of the indices and of the size of the training set."""
        digest = hashlib.blake2b(str(self.num_images).encode(), digest_size=16)
        digest.update(self.indices.astype("<i8").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the manifest as JSON, in one piece: a reader never meets half a file."""
        manifest = {
            "hash": self.hash,
            "fingerprint": self.fingerprint,
            "num_images": self.num_images,
            "num_chosen": len(self),
            "fraction": self.fraction,
            "images_per_class": self.images_per_class,
            "seed": self.seed,
            "class_counts": self.class_counts,
            "indices": self.indices.tolist(),
        }
        write_whole(Path(path), json.dumps(manifest) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Subset":
        """Read a manifest; raise UserError when it is missing, is none, or its hash does not fit its indices."""
        try:
            manifest = json.loads(Path(path).read_text(encoding="utf-8"))
            subset = cls(
                indices=np.array(manifest["indices"], dtype=np.int64).reshape(-1),
                num_images=int(manifest["num_images"]),
                class_counts={str(name): int(count) for name, count in manifest["class_counts"].items()},
                fraction=manifest["fraction"],
                images_per_class=manifest["images_per_class"],
                seed=manifest["seed"],
                fingerprint=str(manifest["fingerprint"]),
            )
            stated = manifest["hash"]
        except OSError as error:
            raise UserError(f"{path}: the subset manifest cannot be read ({error.strerror or error}).") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            message = f"{path}: this is not a subset manifest ({error!r}). Name the subset.json of a run folder."
            raise UserError(message) from error
        if stated != subset.hash:
            raise UserError(f"{path}: the indices do not fit the hash {stated}; the manifest was edited or damaged.")
        return subset


def draw_subset(
    labels: npt.ArrayLike,
    *,
    fraction: float | None = None,
    images_per_class: int | None = None,
    seed: int,
    class_names: tuple[str, ...] | None = None,
) -> Subset:
    """Draw a class-stratified subset; for one seed, smaller ones lie inside larger ones.

    Every class has one permutation keyed by (seed, class), and the subset takes a prefix of each: with `fraction`,
    round-half-up(fraction * n) of a class's n images, with `images_per_class` that many. Both grow with their
    argument, so any two subsets of a seed are nested; fraction 1 is everything. At most one of the two may be given.
    Raise UserError when a class would be left empty, or has fewer images than asked for.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if fraction is not None and images_per_class is not None:
        raise UserError("data.fraction and data.images_per_class are both set; they exclude each other. Keep one.")
    counts = np.bincount(labels)
    names = class_names if class_names is not None else tuple(str(label) for label in range(len(counts)))
    if images_per_class is not None:
        wanted = _fixed_counts(counts, images_per_class, names)
    else:
        wanted = _fraction_counts(counts, 1.0 if fraction is None else fraction, names)
    indices = class_prefixes(labels, wanted, seed=seed, stream="subset")
    kept = np.bincount(labels[indices], minlength=len(names)).tolist()
    return Subset(
        indices=indices,
        num_images=len(labels),
        class_counts=dict(zip(names, kept, strict=True)),
        fraction=fraction,
        images_per_class=images_per_class,
        seed=seed,
    )


def _fraction_counts(counts: Indices, fraction: float, names: tuple[str, ...]) -> Indices:
    """Return how many images each class keeps at `fraction`: half is rounded up, and none may be left empty."""
    if not 0 < fraction <= 1:
        raise UserError(f"data.fraction is {fraction}; it must lie above 0 and at most be 1.")
    wanted: Indices = np.floor(counts * fraction + 0.5 + 1e-9).astype(np.int64)
    empty = np.flatnonzero((counts > 0) & (wanted == 0))
    if len(empty):
        smallest = math.ceil(0.5 / counts[empty].min() * 1e6) / 1e6
        raise UserError(
            f"data.fraction is {fraction:g}, which leaves {some([names[label] for label in empty])} without an image."
            f" The smallest fraction that keeps every class is {smallest:g}."
        )
    return wanted


def _fixed_counts(counts: Indices, images_per_class: int, names: tuple[str, ...]) -> Indices:
    """Return `images_per_class` for every class that occurs; none may have fewer images."""
    if images_per_class < 1:
        raise UserError(f"data.images_per_class is {images_per_class}; it must be at least 1.")
    short = np.flatnonzero((counts > 0) & (counts < images_per_class))
    if len(short):
        raise UserError(
            f"data.images_per_class is {images_per_class}, but {some([names[label] for label in short])} have fewer"
            f" images. The largest number that every class has is {counts[short].min()}."
        )
    return np.where(counts > 0, images_per_class, 0).astype(np.int64)


def import_subset(path: str | Path, split: Split) -> Subset:
    """Return the images of `split` that a published list names, one per line.

    A name is an image's relative path in the data set or any tail of it, down to the base name, with or without the
    extension. Empty lines and lines that begin with # are skipped. Raise UserError that counts and shows every
    unknown, ambiguous or repeated name at once.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"data.subset_file {path}: the list cannot be read ({error}).") from error
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise UserError(f"data.subset_file {path}: the list holds no name.")
    indices = match_file_names(names, split, title=f"data.subset_file {path}")
    return Subset(
        indices=indices,
        num_images=len(split),
        class_counts=split.select(indices).class_counts(),
        fingerprint=split.fingerprint,
    )


def read_subset(path: str, split: Split) -> Subset:
    """Return the subset of `split` that a manifest (*.json) or a published list (any other file) holds."""
    user_path(path, "data.subset_file")
    if not path.endswith(".json"):
        return import_subset(path, split)
    subset = Subset.load(path)
    if subset.fingerprint != split.fingerprint:
        raise UserError(
            f"data.subset_file {path}: the manifest was made for other training images ({subset.num_images} of them,"
            f" fingerprint {subset.fingerprint}) than these ({len(split)}, {split.fingerprint}). Name the run's source."
        )
    return subset
