"""What the images of a study are: how many, of how many classes, of which size, gray or color."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common.errors import UserError
from recipes.sizing.data_log import data_log
from recipes.stages import FINETUNE, load_config
from recipes.study.cost import DatasetSize
from recipes.study.plan import format_value

if TYPE_CHECKING:
    from common.data.sources.split import Split

MEASURED = {"data.mean": "measured", "data.std": "measured"}
"""Normalization of images of any number of channels."""
SAMPLE = 64
"""Images that are decoded to learn their size and whether they are gray."""


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What the training images are, after the hold-outs."""

    class_counts: tuple[int, ...]
    """Labeled training images of every class that has any."""
    unlabeled: int = 0
    """Training images without a label, which pre-training sees, too."""
    side: int
    """Median of the shorter side, in pixels."""
    gray: bool = False
    """Whether the images have one channel, or are RGB with equal channels."""
    channels: int = 3
    validation: int = 0
    """Validation images."""
    test: int = 0
    """Test images."""
    test_counts: Mapping[str, int] = field(default_factory=dict)
    """Test images of every class, in the order of the classes, those without any among them."""
    hold_outs: Mapping[str, float] = field(default_factory=dict)
    """Fraction of the training images that was held out, of those of `validation` and `test` that no split of the data is."""

    @property
    def labeled(self) -> int:
        """Return the number of labeled training images."""
        return sum(self.class_counts)

    @property
    def images(self) -> int:
        """Return the number of training images of pre-training."""
        return self.labeled + self.unlabeled

    def size(self) -> DatasetSize:
        """Return the number of images of each part."""
        return DatasetSize(
            self.labeled, len(self.class_counts), self.class_counts, self.unlabeled, self.validation, self.test
        )

    @property
    def labels_per_class(self) -> int:
        """Return the median number of labeled images of a class."""
        return int(np.median(self.class_counts))

    @property
    def imbalance(self) -> float:
        """Return how many times as many images the largest class has as the smallest one."""
        return max(self.class_counts) / min(self.class_counts)


def read_facts(recipe: Path, settings: Mapping[str, Any], print_line: Callable[[str], None]) -> ImageFacts:
    """Return what the images are that a recipe of fine-tuning with `settings` (keys of `data`) trains on.

    Files are listed and labels read; `SAMPLE` images, spread over the training images, are decoded. Raise UserError if the data
    cannot be opened or have no labels of two classes, or if none of the sampled images can be decoded.

    What the log of a run says about the images is printed: where they are, what was passed over and why, what each part is, and
    warnings.
    """
    from common.data.open_splits import open_splits

    keys = settings if settings.keys() & MEASURED.keys() else {**settings, **MEASURED}
    data = load_config(FINETUNE, recipe, tuple(f"{key}={format_value(value)}" for key, value in keys.items())).data
    data = data.model_copy(update={"verify": "none", "duplicates": "ignore", "on_corrupt": "stop"})
    with data_log(print_line) as log:
        splits = open_splits(data, labeled=True, decodes=False)
        log.setLevel(logging.WARNING)  # the rest is the same again
        unlabeled = open_splits(data, labeled=False, decodes=False).subset.num_unlabeled
        sides, grays = _sample(splits.train)
    counts = tuple(count for count in splits.subset.class_counts.values() if count)
    fractions = {"validation": data.validation_fraction, "test": data.test_fraction}
    return ImageFacts(
        class_counts=counts,
        unlabeled=unlabeled,
        side=int(np.median(sides)),
        gray=all(grays),
        channels=data.channels,
        validation=0 if splits.validation is None else len(splits.validation),
        test=0 if splits.test is None else len(splits.test),
        test_counts={} if splits.test is None else splits.test.class_counts() or {},
        hold_outs={part: fraction for part, fraction in fractions.items() if part in splits.held_out},
    )


def _sample(train: "Split") -> tuple[list[int], list[bool]]:
    """Decode `SAMPLE` images; return the shorter side of each, and whether it is gray. Log those that are entirely white.

    Raise UserError if none of them can be decoded.
    """
    from common.data.splits.white_images import is_white, warn_of_white

    sides, grays, white, problem = list[int](), list[bool](), list[str](), None
    for index in np.unique(np.linspace(0, len(train) - 1, SAMPLE).astype(int)).tolist():
        try:
            image = train.image(index)
        except UserError as error:
            problem = error
            continue
        sides.append(min(image.shape[:2]))
        grays.append(image.shape[2] == 1 or bool((image == image[..., :1]).all()))
        if is_white(image):
            white.append(train.name(index))
    if not sides:
        assert problem is not None
        raise problem
    warn_of_white(white, len(sides))
    return sides, grays
