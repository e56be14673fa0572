"""Owns the keys of a recipe's data: which images, how they are divided, how they are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from common.data.images.decode import MAX_PIXELS, MOST_MEGAPIXELS
from common.sizes import MOST_SIDE, height_and_width

Layout = Literal["market1501", "msmt17"]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images are used, how they are divided, and how they are read."""

    source: str = "digits"
    """Where the images are: 'digits' or 'digits_identities' (embedded), a folder, a parquet file or a folder or pattern of
    them, a folder written by save_to_disk, or the id of a data set on the Hugging Face hub."""
    layout: Layout | None = None
    """How a folder for re-identification is laid out; none: found by its folders or lists."""
    revision: str | None = None
    """Branch, tag or commit of a hub data set; empty for its main branch."""
    config_name: str | None = None
    """Configuration of a hub data set that has several."""
    train_split: str = "train"
    """Name of the split that trains."""
    validation_split: str | None = None
    """Name of the split that validates; empty: the usual names, else a hold-out of the training images."""
    test_split: str | None = None
    """Name of the split that is looked at once, at the end; empty: the usual names, else a hold-out."""
    image_column: str | None = None
    """Column of the images in a table; empty: the one column that holds images."""
    label_column: str | None = None
    """Column of the labels in a table; empty: the one column that holds classes."""
    validation_fraction: float = 0.1
    """Part of every class's training images that is held out where there is no validation split; 0 for none. For
    re-identification: part of the training identities."""
    test_fraction: float = 0.2
    """Part of every class's training images that is held out where there is no test split; 0 for none."""
    split_seed: int = 0
    """Seed of the hold-outs. Both stages must use the same one, or pre-training sees the other's test images."""
    fraction: float = 1.0
    """Part of every class's training images that is used, above 0 and at most 1."""
    images_per_class: int | None = None
    """Training images per class, instead of a fraction."""
    subset_seed: int = 0
    """Seed of the subset; smaller subsets of a seed lie inside larger ones."""
    subset_file: str | None = None
    """Published list of training images, a name per line, or the subset.json of another run, instead of a fraction."""
    image_size: int | tuple[int, int] = 224
    """Side of the square images the network sees, or [height, width] of upright or wide ones, in pixels."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean of the red, green and blue channel that is taken off, for values of 0 to 1."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """Standard deviation of the red, green and blue channel that is divided by, for values of 0 to 1."""
    workers: int = 2
    """Processes that prepare batches, for each training process; 0 prepares them in the training process. Images are
    decoded before training by as many threads, those of fewer than 48 x 48 pixels by one."""
    verify: Literal["auto", "all", "sample", "none"] = "auto"
    """Which images are decoded before training to find broken ones: all, a sample of 1,000, none; auto: all of up to
    20,000 images, a sample of more."""
    cache_megabytes: int = 1024
    """Memory for decoded images, in MiB; a split that fits is decoded once, before training. 0 for none."""
    on_error: Literal["stop", "skip"] = "stop"
    """What a broken image does: stop ends the run and names it. With skip another training image, drawn by the seed,
    stands in for it with its own label; validation and test images are all decoded before training, whatever
    `data.verify` says, and the broken ones left out. Both are told in result.json."""
    max_errors: float = 0.01
    """Share of the training, validation or test images that may be broken under on_error=skip, at least 0 and below 1;
    beyond it the run stops."""
    max_megapixels: int = MAX_PIXELS // 10**6
    """Largest image that is decoded, in millions of pixels; one that is larger by its header counts as broken. A file
    of few kilobytes may unpack to gigabytes, and every worker holds 3 bytes for each pixel."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what is allowed)."""
        if not self.source.strip():
            yield "source", "it is empty; name 'digits', a folder, a parquet file or a hub id"
        for name in ("validation_fraction", "test_fraction"):
            if not 0 <= getattr(self, name) < 1:
                yield name, f"{getattr(self, name)} must be at least 0 and below 1"
        if not 0 < self.fraction <= 1:
            yield "fraction", f"{self.fraction} must be above 0 and at most 1"
        if self.images_per_class is not None and self.images_per_class < 1:
            yield "images_per_class", f"{self.images_per_class} must be at least 1"
        ways = [self.fraction != 1, self.images_per_class is not None, self.subset_file is not None]
        if sum(ways) > 1:
            yield "fraction", "fraction, images_per_class and subset_file exclude each other; keep one of them"
        if not all(1 <= side <= MOST_SIDE for side in height_and_width(self.image_size)):
            yield (
                "image_size",
                f"{self.image_size} must be at least 1 and at most {MOST_SIDE}; give a side, or [height, width]",
            )
        for name, most in (("workers", 1024), ("cache_megabytes", 2**30)):
            if not 0 <= getattr(self, name) <= most:
                yield name, f"{getattr(self, name)} must be at least 0 and at most {most}"
        if not 0 <= self.max_errors < 1:
            yield "max_errors", f"{self.max_errors} must be at least 0 and below 1: it is a share of the images"
        if not 1 <= self.max_megapixels <= MOST_MEGAPIXELS:
            yield "max_megapixels", f"{self.max_megapixels} must lie in 1 to {MOST_MEGAPIXELS}, Pillow's own bound"
        for number in range(3):
            if not 0 <= self.mean[number] <= 1:
                yield "mean", f"{self.mean[number]} must lie in 0 to 1, as the images' values are taken to"
            if not 1e-3 <= self.std[number] <= 1e3:
                yield "std", f"{self.std[number]} must lie in 0.001 to 1000, for values of 0 to 1"
