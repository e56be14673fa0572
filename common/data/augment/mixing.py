"""Mixup, cutmix and label smoothing, on the device. One draw per global step, the same on every process.

Shapes: B samples of this process, C classes, H and W pixels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.data.augment.supervised import AugmentConfig
from common.errors import UserError
from common.rng import generator
from common.sizes import height_and_width


class MixingDraw(NamedTuple):
    """Parameters of mixing for one step."""

    lam: float
    """Weight of an image itself in its target (lambda)."""
    box: tuple[int, int, int, int] | None
    """Top, bottom, left, right of the rectangle that cutmix takes from the partner; None for mixup."""


MIXING = ("mixup and cutmix", "augment.mixup=0 augment.cutmix=0")
"""What needs pairs of images, and the keys that turn it off: arguments of `pair_problems` and `check_pairs`."""


def pair_problems(batch_size: int, what: str, without: str) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for a batch over all processes that leaves an image without a partner on any number of them."""
    if batch_size % 2:
        yield (
            "train.batch_size",
            f"{batch_size}: is odd, but {what} need pairs of images. Set an even number, or {without}.",
        )


def mixing_problems(config: AugmentConfig, batch_size: int) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for a batch over all processes of which mixup or cutmix cannot pair the images."""
    if config.mixup or config.cutmix:
        yield from pair_problems(batch_size, *MIXING)


def check_pairs(images: int, what: str, without: str) -> None:
    """Raise UserError if one of a process's images has no partner."""
    if images % 2:
        raise UserError(
            f"train.batch_size: each process gets {images} images, but {what} need pairs. Set an even number per process, or"
            f" {without}."
        )


def build_mixing(config: AugmentConfig, seed: int, num_classes: int) -> "Mixing":
    """Return the mixing that the configuration describes."""
    return Mixing(
        mixup_alpha=config.mixup,
        cutmix_alpha=config.cutmix,
        switch_prob=config.mixup_switch_prob,
        label_smoothing=config.label_smoothing,
        seed=seed,
        num_classes=num_classes,
    )


class Mixing:
    """Mix the images at positions 2k and 2k + 1 of a batch, and their smoothed targets.

    mixup (Zhang et al. 2018): x = lam * x + (1 - lam) * partner, lam ~ Beta(mixup_alpha, mixup_alpha).
    cutmix (Yun et al. 2019): a rectangle of area 1 - lam, lam ~ Beta(cutmix_alpha, cutmix_alpha), comes from the partner; lam is
    then corrected to the remaining area after clipping the rectangle at the image's edge.
    Both follow timm's `Mixup` in batch mode, except for the pairs (timm pairs first and last): neighbors are on the same process
    for every number of processes.
    """

    def __init__(
        self,
        *,
        mixup_alpha: float,
        cutmix_alpha: float,
        switch_prob: float,
        label_smoothing: float,
        seed: int,
        num_classes: int,
    ) -> None:
        """Create the mixing. An alpha of 0 disables its method; `switch_prob` is the probability of cutmix if both are enabled."""
        self.mixup_alpha, self.cutmix_alpha, self.switch_prob = mixup_alpha, cutmix_alpha, switch_prob
        self.label_smoothing, self.seed, self.num_classes = label_smoothing, seed, num_classes

    def draw(self, size: int | tuple[int, int], *, epoch: int, step: int) -> MixingDraw:
        """Draw the parameters of a step for images of `size` pixels (side, or height and width), keyed by (seed, epoch, step)."""
        rng = generator(self.seed, epoch=epoch, index=step, stream="mixing")
        both = self.mixup_alpha and self.cutmix_alpha
        use_cutmix = rng.random() < self.switch_prob if both else bool(self.cutmix_alpha)
        alpha = self.cutmix_alpha if use_cutmix else self.mixup_alpha
        lam = float(rng.beta(alpha, alpha)) if alpha else 1.0
        if not use_cutmix:
            return MixingDraw(lam, None)
        height, width = height_and_width(size)
        center_y, center_x = rng.integers([height, width]).tolist()
        top, bottom = _interval(center_y, height, lam)
        left, right = _interval(center_x, width, lam)
        return MixingDraw(1 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right))

    def check_pairs(self, images: int) -> None:
        """Raise UserError if a process gets so many images that one of them has no partner to be mixed with."""
        if self.mixup_alpha or self.cutmix_alpha:
            check_pairs(images, *MIXING)

    def __call__(self, images: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return mixed (B, C, H, W) images and their (B, C) float32 targets from normalized images and (B,) labels."""
        targets = smooth_targets(labels, self.num_classes, self.label_smoothing)
        if not (self.mixup_alpha or self.cutmix_alpha):
            return images, targets
        self.check_pairs(len(images))
        lam, box = self.draw((images.shape[-2], images.shape[-1]), epoch=epoch, step=step)
        partners = swap_neighbors(images)
        if box is None:
            images = torch.lerp(partners, images, lam)
        else:
            top, bottom, left, right = box
            images = images.clone()
            images[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return images, torch.lerp(swap_neighbors(targets), targets, lam)


def _interval(center: int, side: int, lam: float) -> tuple[int, int]:
    """Return (start, end) of a rectangle of area fraction 1 - lam around `center`, clipped to an axis of `side` pixels."""
    length = int(side * np.sqrt(1 - lam))
    return max(center - length // 2, 0), min(center + (length + 1) // 2, side)


def smooth_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return (B, C) float32 targets: 1 - smoothing on the label, plus `smoothing` spread evenly over all C classes."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / num_classes)


def swap_neighbors(values: Tensor) -> Tensor:
    """Return `values` with rows 2k and 2k + 1 swapped."""
    return values.view(-1, 2, *values.shape[1:]).flip(1).view_as(values)
