"""Owns mixup, cutmix and label smoothing: one draw a global step, on the device, the same on every process.

Shapes: B samples of this process, C classes, H and W pixels.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.data.augment.supervised import AugmentConfig
from common.errors import UserError
from common.rng import generator
from common.sizes import height_and_width


class MixingDraw(NamedTuple):
    """Say how a step's images are mixed."""

    share: float
    """Lambda: what an image keeps of itself, in its target."""
    box: tuple[int, int, int, int] | None
    """Top, bottom, left, right of the rectangle that cutmix takes from the partner; none for mixup."""


def build_mixing(config: AugmentConfig, seed: int, num_classes: int) -> "Mixing":
    """Return the mixing that the recipe sets."""
    return Mixing(
        mixup=config.mixup,
        cutmix=config.cutmix,
        switch=config.mixup_switch,
        smoothing=config.smoothing,
        seed=seed,
        num_classes=num_classes,
    )


class Mixing:
    """Mix the images at positions 2k and 2k + 1 of a batch, and their smoothed targets.

    mixup (Zhang et al. 2018): x = share * x + (1 - share) * partner, share ~ Beta(mixup, mixup).
    cutmix (Yun et al. 2019): a rectangle of area 1 - share, share ~ Beta(cutmix, cutmix), comes from the partner;
    `share` is then set to the area that is left after the rectangle was clipped at the image's edge.
    Both as timm's `Mixup` in batch mode, but for the pairs (timm's are first and last): neighbours lie on one process,
    whatever the number of processes.
    """

    def __init__(
        self, *, mixup: float, cutmix: float, switch: float, smoothing: float, seed: int, num_classes: int
    ) -> None:
        """Take both alphas (0: off), the probability of cutmix where both are on, and the share of smoothing."""
        self.mixup, self.cutmix, self.switch = mixup, cutmix, switch
        self.smoothing, self.seed, self.num_classes = smoothing, seed, num_classes

    def draw(self, size: int | tuple[int, int], *, epoch: int, step: int) -> MixingDraw:
        """Return the draw of a step for images of `size` (side, or height and width) pixels, keyed by (seed, epoch, step)."""
        own = generator(self.seed, epoch=epoch, index=step, stream="mixing")
        by_cutmix = own.random() < self.switch if self.mixup and self.cutmix else bool(self.cutmix)
        alpha = self.cutmix if by_cutmix else self.mixup
        share = float(own.beta(alpha, alpha)) if alpha else 1.0
        if not by_cutmix:
            return MixingDraw(share, None)
        height, width = height_and_width(size)
        middle_y, middle_x = own.integers([height, width]).tolist()
        top, bottom = _interval(middle_y, height, share)
        left, right = _interval(middle_x, width, share)
        return MixingDraw(1 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right))

    def __call__(self, images: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Return mixed (B, 3, H, W) images and their (B, C) float32 targets from normalised images and (B,) labels."""
        targets = smooth_targets(labels, self.num_classes, self.smoothing)
        if not (self.mixup or self.cutmix):
            return images, targets
        if len(images) % 2:
            raise UserError(
                f"train.batch_size: each process gets {len(images)} images, and mixup and cutmix pair them; give an "
                "even number for each process, or set augment.mixup=0 augment.cutmix=0"
            )
        share, box = self.draw((images.shape[-2], images.shape[-1]), epoch=epoch, step=step)
        partners = swap_neighbours(images)
        if box is None:
            images = torch.lerp(partners, images, share)
        else:
            top, bottom, left, right = box
            images = images.clone()
            images[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return images, torch.lerp(swap_neighbours(targets), targets, share)


def _interval(middle: int, side: int, share: float) -> tuple[int, int]:
    """Return where a rectangle of area 1 - share around `middle` begins and ends on an axis of so many pixels."""
    length = int(side * np.sqrt(1 - share))
    return max(middle - length // 2, 0), min(middle + (length + 1) // 2, side)


def smooth_targets(labels: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return (B, C) float32 targets: 1 - smoothing on the label, `smoothing` spread evenly over all C classes."""
    targets = torch.full((len(labels), num_classes), smoothing / num_classes, device=labels.device)
    return targets.scatter_(1, labels[:, None], 1 - smoothing + smoothing / num_classes)


def swap_neighbours(values: Tensor) -> Tensor:
    """Return the rows with 2k and 2k + 1 exchanged."""
    return values.view(-1, 2, *values.shape[1:]).flip(1).view_as(values)
