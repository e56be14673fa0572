"""Label subsets: nested and class-stratified, by fraction, count or published list, and their manifests."""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.data.sources.split import Split
from common.data.splits.file_names import known_names, match_file_names
from common.data.splits.stratified import Indices, class_prefixes
from common.errors import UserError, quoted
from common.files import write_atomic
from common.json_text import to_json
from common.paths import user_path


@dataclass(frozen=True, kw_only=True)
class Subset:
    """A subset of a training set.

    indices: (n,) int64, sorted, positions in the full training set in the order of its source; num_images: size of the full
    training set; class_counts: images per class name; fingerprint: that of the full training set ("" if unknown).
    """

    indices: Indices
    num_images: int
    class_counts: dict[str, int]
    fraction: float | None = None
    images_per_class: int | None = None
    seed: int | None = None
    fingerprint: str = ""
    num_unlabeled: int = 0
    """Training images without a label, which follow those of the subset; `indices` and `num_images` are of the labeled ones."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.indices)

    @property
    def hash(self) -> str:
        """Return a hash of the indices and the size of the full training set."""
        digest = hashlib.blake2b(str(self.num_images).encode(), digest_size=16)
        digest.update(self.indices.astype("<i8").tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the manifest as JSON, atomically: a reader never sees a partial file."""
        manifest = {
            "hash": self.hash,
            "fingerprint": self.fingerprint,
            "num_images": self.num_images,
            "num_chosen": len(self),
            "fraction": self.fraction,
            "images_per_class": self.images_per_class,
            "seed": self.seed,
            "class_counts": self.class_counts,
            **({"num_unlabeled": self.num_unlabeled} if self.num_unlabeled else {}),
            "indices": self.indices.tolist(),
        }
        write_atomic(Path(path), to_json(manifest) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Subset":
        """Read a manifest; raise UserError if it is missing, invalid, or its hash does not match its indices."""
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
            expected_hash = manifest["hash"]
        except OSError as error:
            raise UserError(f"{path}: the subset manifest cannot be read ({error.strerror or error}).") from error
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            message = f"{path}: not a subset manifest ({error!r}). Use the subset.json of a run folder."
            raise UserError(message) from error
        if expected_hash != subset.hash:
            raise UserError(
                f"{path}: the indices do not match the hash {expected_hash}; the manifest was edited or is damaged."
            )
        return subset


def draw_subset(
    labels: npt.ArrayLike,
    *,
    fraction: float | None = None,
    images_per_class: int | None = None,
    seed: int,
    class_names: tuple[str, ...] | None = None,
) -> Subset:
    """Draw a class-stratified subset; subsets of the same seed are nested.

    Each class has one permutation, seeded by (seed, class), and the subset takes a prefix of it: round-half-up(fraction * n)
    of the n images of a class with `fraction`, that many with `images_per_class`. Both grow with their argument, so any two
    subsets of a seed are nested; fraction 1 selects all images. At most one of the two may be given. Raise UserError if a
    class would be empty, or has fewer images than requested.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if fraction is not None and images_per_class is not None:
        raise UserError(
            "data.fraction and data.images_per_class are both set, but they are mutually exclusive. Set only one of them."
        )
    counts = np.bincount(labels)
    names = class_names if class_names is not None else tuple(str(label) for label in range(len(counts)))
    if images_per_class is not None:
        class_counts = _fixed_counts(counts, images_per_class, names)
    else:
        class_counts = _fraction_counts(counts, 1.0 if fraction is None else fraction, names)
    indices = class_prefixes(labels, class_counts, seed=seed, stream="subset")
    selected_counts = np.bincount(labels[indices], minlength=len(names)).tolist()
    return Subset(
        indices=indices,
        num_images=len(labels),
        class_counts=dict(zip(names, selected_counts, strict=True)),
        fraction=fraction,
        images_per_class=images_per_class,
        seed=seed,
    )


def _fraction_counts(counts: Indices, fraction: float, names: tuple[str, ...]) -> Indices:
    """Return the number of images of each class at `fraction`, rounded half up; raise UserError if a class is empty."""
    if not 0 < fraction <= 1:
        raise UserError(f"data.fraction is {fraction}; it must be above 0 and at most 1.")
    selected = _rounded_counts(counts, fraction)
    empty = np.flatnonzero((counts > 0) & (selected == 0))
    if len(empty):
        smallest = math.ceil(0.5 / counts[empty].min() * 1e6) / 1e6
        raise UserError(
            f"data.fraction is {fraction:g}, which leaves {quoted([names[label] for label in empty])} without images."
            f" The smallest fraction that keeps every class is {smallest:g}."
        )
    return selected


def _rounded_counts(counts: Indices, fraction: float) -> Indices:
    """Return round-half-up(fraction * n) for each class of n images."""
    rounded: Indices = np.floor(counts * fraction + 0.5 + 1e-9).astype(np.int64)
    return rounded


def draw_validation_subset(labels: npt.ArrayLike, *, fraction: float, seed: int) -> Indices:
    """Return the sorted indices of the validation images whose labels a choice may use when training uses `fraction` of its labels.

    They are those of `draw_subset`, so they are nested, too; but where it raises because a class would be empty, that class keeps
    one image, the first of its permutation: validation parts are small, and without an image of a class no metric covers it.
    """
    labels = np.asarray(labels, dtype=np.int64)
    counts = np.bincount(labels)
    wanted = np.maximum(_rounded_counts(counts, fraction), np.minimum(counts, 1))
    return class_prefixes(labels, wanted, seed=seed, stream="subset")


def _fixed_counts(counts: Indices, images_per_class: int, names: tuple[str, ...]) -> Indices:
    """Return `images_per_class` for every class that occurs; raise UserError if a class has fewer images."""
    if images_per_class < 1:
        raise UserError(f"data.images_per_class is {images_per_class}; it must be at least 1.")
    short = np.flatnonzero((counts > 0) & (counts < images_per_class))
    if len(short):
        raise UserError(
            f"data.images_per_class is {images_per_class}, but {quoted([names[label] for label in short])} have fewer"
            f" images. The largest number that every class has is {counts[short].min()}."
        )
    return np.where(counts > 0, images_per_class, 0).astype(np.int64)


def import_subset(path: str | Path, split: Split) -> Subset:
    """Return the subset of `split` given by a published list of image names, one per line.

    A name is the relative path of an image in the dataset or a suffix of it, down to the base name, with or without the
    extension. Empty lines are skipped, and so are lines that start with # and name no image. Raise UserError that reports all
    unknown, ambiguous and duplicate names together.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"data.subset_file {path}: the list cannot be read ({error}).") from error
    given = [line.strip() for line in lines if line.strip()]
    images = known_names([line for line in given if line.startswith("#")], split)
    names = [line for line in given if not line.startswith("#") or line in images]
    if not names:
        raise UserError(f"data.subset_file {path}: the list contains no names.")
    indices = match_file_names(names, split, title=f"data.subset_file {path}")
    return Subset(
        indices=indices,
        num_images=len(split),
        class_counts=split.select(indices).class_counts(),
        fingerprint=split.fingerprint,
    )


def read_subset(path: str, split: Split) -> Subset:
    """Read a subset of `split` from a manifest (*.json) or a published list (any other file)."""
    path = str(user_path(path, "data.subset_file"))
    if not path.endswith(".json"):
        return import_subset(path, split)
    subset = Subset.load(path)
    if subset.fingerprint != split.fingerprint:
        raise UserError(
            f"data.subset_file {path}: the manifest belongs to another training set ({subset.num_images} images, fingerprint"
            f" {subset.fingerprint}) than data.source ({len(split)} images, fingerprint {split.fingerprint}). Set data.source"
            " to the source of that run."
        )
    return subset
