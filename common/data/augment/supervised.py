"""Transforms for supervised training and evaluation: DeiT's augmentation (crop, RandAugment, erasing) and the center crop.

Each random draw is keyed by the sample; the global random states that a policy uses are restored after each batch.
Shapes: B samples, C channels, H and W pixels, P parameters of a view.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import cv2
import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from common.config import Config
from common.config_messages import Otherwise
from common.config_types import AreaRange, PositiveRange, up_to
from common.data.augment import parameters as columns
from common.data.augment.color import apply_on_crop, color_ops
from common.data.augment.erasing import draw_erasure, stack_erasures
from common.data.augment.multi_crop import Views, crop_and_resize
from common.data.augment.parameters import ViewRanges, draw_parameters, draw_uniforms, view_affines
from common.data.augment.planes import empty_block, write_view
from common.data.augment.policies import Policy, apply_policy, build_policy, is_policy, preserve_global_rng
from common.data.augment.resize import pad, resize_image, uncropped_geometry
from common.data.images import ImageArray
from common.rng import SampleKey, generator
from common.sizes import height_and_width, size_before_crop


class AugmentConfig(Config):
    """Training augmentation, mixing and evaluation crop; the defaults are DeiT's (Touvron et al. 2021)."""

    crop_scale: AreaRange = (0.08, 1.0)
    """Range of the random crop's area, as a fraction of the image's area."""
    ratio: PositiveRange = (3 / 4, 4 / 3)
    """Range of the random crop's aspect ratio, width over height."""
    padding: Annotated[
        int, Field(ge=0), Otherwise("is negative, use a number of pixels, or 0 for random resized crops")
    ] = 0
    """Pixels added on each side before a random crop of the network's input size, 4 for CIFAR; 0 for random resized crops.
    Above 0, `crop_scale` and `ratio` are ignored: the image is resized to the smallest size that covers the input size."""
    padding_mode: Literal["zero", "reflect"] = "zero"
    """Fill of the padding: zero for black, reflect for the image mirrored at its edge."""
    crop_mode: Literal["center", "squash"] = "center"
    """How a complete image (with `padding`, in evaluation) is resized to the network's input size, as in timm. center: resized to
    cover it, preserving the aspect ratio, then cropped; squash: resized to exactly this height and width, not preserving the
    aspect ratio, as in re-identification."""
    hflip_prob: Annotated[float, *up_to(1)] = 0.5
    """Probability of a horizontal flip."""
    degrees: Annotated[float, *up_to(180)] = 0.0
    """Largest rotation in either direction, in degrees."""
    translate: Annotated[float, *up_to(1)] = 0.0
    """Largest translation along each axis, as a fraction of the view's side."""
    auto_augment: Annotated[str, BeforeValidator(lambda value: "" if value in (None, "none") else value)] = (
        "rand-m9-mstd0.5-inc1"
    )
    """Policy in timm's notation: rand-m9-mstd0.5-inc1 and the like (RandAugment), original, originalr, v0, v0r
    (AutoAugment), 3a; none, or "" in a recipe, for no policy."""
    color_jitter: Annotated[float, *up_to(1)] = 0.0
    """Largest change of brightness, contrast and, in RGB, saturation, as a fraction; applied after the policy, if there is one."""
    random_erasing_prob: Annotated[float, *up_to(1)] = 0.25
    """Probability that a rectangle of the view is overwritten with noise."""
    aug_repeats: Annotated[int, Field(ge=1), Otherwise("is too small, use 1 (each image once per batch) or more")] = 3
    """Number of copies of an image in a batch (repeated augmentation); 1 to disable."""
    mixup: Annotated[float, *up_to(100)] = 0.8
    """Alpha of mixup's beta distribution; 0 for no mixup."""
    cutmix: Annotated[float, *up_to(100)] = 1.0
    """Alpha of cutmix's beta distribution; 0 for no cutmix."""
    mixup_switch_prob: Annotated[float, *up_to(1)] = 0.5
    """Probability of cutmix instead of mixup in a step, if both are enabled."""
    label_smoothing: Annotated[float, *up_to(1)] = 0.1
    """Fraction of the target that is spread evenly over all classes."""
    crop_pct: Annotated[float, Field(gt=0, le=1), Otherwise("is not a valid fraction, use a value in (0, 1]")] = 0.875
    """Side of the evaluation's center crop, as a fraction of the resized image's shorter side."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong and what is allowed)."""
        if self.auto_augment and not is_policy(self.auto_augment):
            yield (
                "auto_augment",
                f"{self.auto_augment!r} is not a policy, use rand-m<magnitude>, followed by -n<layers>, -p<probability>, "
                "-mstd<deviation>, -mmax<bound>, -inc1 or -t<set> (of a weighted set no more layers than it has operations: 15 of "
                "-tweights, 14 of -t3aw); or original, originalr, v0, v0r, 3a, followed by -mstd<deviation>; or none",
            )


def channel_problems(config: AugmentConfig, *, channels: int, bits: int) -> Iterator[tuple[str, str]]:
    """Yield (field, message) if the policy does not work on such images."""
    if config.auto_augment and (channels not in (1, 3) or bits != 8):
        yield (
            "auto_augment",
            f"{config.auto_augment!r}: policies work on gray and RGB of 8 bits, but data.channels is {channels}, data.bit_depth"
            f" {bits}; use none",
        )


def color_warnings(config: AugmentConfig, *, channels: int) -> Iterator[str]:
    """Yield a warning for color augmentation that the images have no colors for."""
    if config.color_jitter and channels != 3:
        yield (
            f"augment.color_jitter = {config.color_jitter:g} changes brightness and contrast alone: saturation needs RGB, and "
            f"data.channels is {channels}."
        )


def build_supervised_transform(
    config: AugmentConfig,
    image_size: int | tuple[int, int],
    seed: int,
    *,
    mean: Sequence[float],
    with_geometry: bool = False,
) -> "SupervisedTransform":
    """Return the training transform to `image_size` pixels; `mean` (C values in 0..1) is the fill color of a policy.

    With `with_geometry`, the transform also returns the map from each view to its image, which token labels need.
    """
    size = height_and_width(image_size)
    jitter = config.color_jitter
    ranges = ViewRanges(
        scale=np.array([config.crop_scale]),
        ratio=config.ratio,
        hflip_prob=config.hflip_prob,
        degrees=config.degrees,
        translate=config.translate,
        color_jitter_prob=float(jitter > 0),
        color_jitter=(jitter, jitter, jitter if len(mean) == 3 else 0.0, 0.0),
        grayscale_prob=0.0,
        blur_prob=np.zeros(1),
        blur_sigma=(0.0, 0.0),
        solarize_prob=np.zeros(1),
    )
    policy = build_policy(config.auto_augment, min(size), mean) if config.auto_augment else None
    border = {"zero": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101}[config.padding_mode]
    return SupervisedTransform(
        ranges,
        size,
        seed,
        padding=config.padding,
        border=border,
        squash=config.crop_mode == "squash",
        policy=policy,
        random_erasing_prob=config.random_erasing_prob,
        with_geometry=with_geometry,
    )


class SupervisedTransform:
    """DeiT's training augmentation: crop, resize, flip, policy, color jitter, and the rectangle to erase after normalization."""

    def __init__(
        self,
        ranges: ViewRanges,
        size: tuple[int, int],
        seed: int,
        *,
        padding: int,
        border: int,
        squash: bool,
        policy: Policy | None,
        random_erasing_prob: float,
        with_geometry: bool = False,
    ) -> None:
        """Create the transform from the ranges of its single view and the view's (height, width) in pixels."""
        self.ranges, self.size, self.seed, self.with_geometry = ranges, size, seed, with_geometry
        self.padding, self.border, self.squash = padding, border, squash
        self.policy, self.random_erasing_prob = policy, random_erasing_prob

    def __call__(self, images: Sequence[ImageArray], keys: Sequence[SampleKey]) -> Views:
        """Return one (1, B, C, H, W) block from B (H, W, C) images, and the erasures."""
        heights, widths = np.array([image.shape[:2] for image in images]).T
        uniforms = draw_uniforms(self.seed, keys, 1, stream="supervised")
        drawn = draw_parameters(self.ranges, heights, widths, uniforms)[:, 0]
        channels = images[0].shape[2]
        ops, parameters = color_ops(torch.from_numpy(drawn), channels), drawn.tolist()
        block = empty_block(images, 1, self.size)
        planes = block[0].numpy()
        erasures: list[tuple[tuple[int, ...], Any]] = []
        with preserve_global_rng():
            for sample, (image, key, view_parameters) in enumerate(zip(images, keys, parameters, strict=True)):
                rng = self._generator(key)
                crop = self._crop(image, view_parameters, (0.0, 0.0) if rng is None else rng.random(2).tolist())
                if rng is not None and self.policy is not None:
                    crop = apply_policy(self.policy, crop, int(rng.integers(2**32)))
                write_view(apply_on_crop(crop, ops[sample]), planes[sample])
                if rng is not None and (box := draw_erasure(rng, self.size, self.random_erasing_prob)) is not None:
                    noise = rng.standard_normal(channels * box[2] * box[3], dtype=np.float32)
                    erasures.append(((sample, *box), noise))
        geometry = self._geometry(np.array(parameters), heights, widths) if self.with_geometry else None
        return Views([block], [], stack_erasures(erasures) if self.random_erasing_prob else None, geometry)

    def _generator(self, key: SampleKey) -> np.random.Generator | None:
        """Return the generator of a sample's draws beyond its view's parameters; None where nothing draws from it."""
        if not self.padding and self.policy is None and not self.random_erasing_prob:
            return None
        return generator(self.seed, epoch=key.epoch, index=key.index, repeat=key.repeat, stream="policy")

    def _geometry(self, parameters: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> Tensor:
        """Return the (B, 2, 3) maps from views to images, from the (B, P) parameters as updated by `_crop`."""
        if self.padding:
            sizes = zip(heights, widths, strict=True)
            uncropped = [uncropped_geometry(height, width, self.size, squash=self.squash) for height, width in sizes]
            tops, lefts, heights, widths = np.array(uncropped).T
            parameters[:, columns.TOP] += tops - self.padding
            parameters[:, columns.LEFT] += lefts - self.padding
        return torch.from_numpy(view_affines(parameters, heights, widths))

    def _crop(self, source: Any, parameters: list[float], offset: Sequence[float]) -> Any:
        """Return the (H, W, C) crop: a random resized crop; with padding, a crop at `offset`, two fractions of its range.

        With padding, the crop is written to `parameters`, in pixels of the padded image.
        """
        if self.padding:
            source = pad(resize_image(source, self.size, squash=self.squash), self.padding, self.border)
            height, width = source.shape[:2]
            parameters[columns.TOP] = int(offset[0] * (height - self.size[0] + 1))
            parameters[columns.LEFT] = int(offset[1] * (width - self.size[1] + 1))
            parameters[columns.HEIGHT], parameters[columns.WIDTH] = self.size
        return crop_and_resize(source, parameters, self.size)


class EvaluationTransform:
    """Evaluation transform: bicubic resize to cover image_size / crop_pct (with `squash`: to exactly that size), then center crop.

    For a square image size, covering means resizing the shorter side to that length.
    """

    def __init__(self, image_size: int | tuple[int, int], crop_pct: float, *, squash: bool = False) -> None:
        """Create the transform from the view's side or (height, width) in pixels and its fraction of the resized image's."""
        self.size, self.squash = height_and_width(image_size), squash
        self.resized = size_before_crop(self.size, crop_pct)

    def __call__(self, images: Sequence[ImageArray], keys: Sequence[SampleKey]) -> Views:
        """Return one (1, B, C, H, W) block. The keys are unused, because nothing is random."""
        block = empty_block(images, 1, self.size)
        for view, image in zip(block[0].numpy(), images, strict=True):
            resized = resize_image(image, self.resized, squash=self.squash)
            top, left = (round((side - crop) / 2) for side, crop in zip(resized.shape[:2], self.size, strict=True))
            write_view(resized[top : top + self.size[0], left : left + self.size[1]], view)
        return Views([block], [], None)
