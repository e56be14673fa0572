"""Owns what the fine-tuner sees of an image: DeiT's training view (crop, RandAugment, erasing) and the evaluation view.

Every draw is keyed by the sample; a policy's global random states are put back after each batch.
Shapes: B samples, H and W pixels.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from common.data.augment import parameters as columns
from common.data.augment.color import apply_on_crop, crop_steps
from common.data.augment.erasing import draw_erasure, stack_erasures
from common.data.augment.multi_crop import Views, as_interleaved, crop_and_resize
from common.data.augment.parameters import ViewRanges, draw_uniforms, draw_views, view_affines
from common.data.augment.policies import Policy, build_policy, global_states_kept, is_policy, run_policy
from common.data.augment.resize import pad, resize_whole, whole_after
from common.rng import SampleKey, generator
from common.sizes import height_and_width


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Set the training view, the mixing and the evaluation crop; the defaults are DeiT's (Touvron et al. 2021)."""

    crop_scale: tuple[float, float] = (0.08, 1.0)
    """Bounds of the random crop's share of the image's area."""
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    """Bounds of the random crop's width over height."""
    padding: int = 0
    """Pixels added on each side before a crop of the network's size is cut at random, 4 for CIFAR; 0 for random resized
    crops. Above 0 `crop_scale` and `aspect` have no part: the image is resized until it just covers the network's size."""
    padding_mode: Literal["zero", "reflect"] = "zero"
    """What the padding holds: black, or the image mirrored at its edge."""
    stretch: bool = False
    """Whether an image that is resized in whole (`padding`, evaluation) gets the network's height and width exactly, its
    aspect not kept, as in re-identification; otherwise it covers them and is cut."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    rotation_degrees: float = 0.0
    """Largest rotation either way, in degrees."""
    shift: float = 0.0
    """Largest shift in each direction, as a fraction of the view's side."""
    auto_augment: str = "rand-m9-mstd0.5-inc1"
    """Policy in timm's notation: rand-m9-mstd0.5-inc1 and the like (RandAugment), original, originalr, v0, v0r
    (AutoAugment), 3a; "" for none."""
    colour_jitter: float = 0.0
    """Largest change of brightness, contrast and saturation, as a fraction; after the policy, where there is one."""
    erasing: float = 0.25
    """Probability that a rectangle of the view is overwritten by noise."""
    repeats: int = 3
    """How often an image comes in a batch (repeated augmentation); 1 for once."""
    mixup: float = 0.8
    """Alpha of mixup's beta distribution; 0 for no mixup."""
    cutmix: float = 1.0
    """Alpha of cutmix's beta distribution; 0 for no cutmix."""
    mixup_switch: float = 0.5
    """Probability of cutmix rather than mixup in a step where both are on."""
    smoothing: float = 0.1
    """Share of the target that is spread evenly over all classes."""
    evaluation_crop: float = 0.875
    """Side of the evaluation's centre crop over the resized image's shorter side."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, what is wrong with it and what is allowed)."""
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            yield "crop_scale", f"({low}, {high}) are no shares of an area: give 0 < lowest <= highest <= 1"
        low, high = self.aspect
        if not 0 < low <= high < math.inf:
            yield "aspect", f"({low}, {high}) is no range: give 0 < lowest <= highest"
        if self.auto_augment and not is_policy(self.auto_augment):
            yield (
                "auto_augment",
                f"{self.auto_augment!r} is no policy: give rand-m<magnitude>, with -n<layers>, -p<probability>, "
                "-mstd<deviation>, -mmax<bound>, -inc1 or -t<set> after it; or original, originalr, v0, v0r, 3a, with "
                '-mstd<deviation> after it; or "" for none',
            )
        limits = {"rotation_degrees": 180.0, "mixup": 100.0, "cutmix": 100.0}
        shares = ("flip", "shift", "colour_jitter", "erasing", "mixup_switch", "smoothing")
        for name in (*shares, "rotation_degrees", "mixup", "cutmix"):
            if not 0 <= getattr(self, name) <= limits.get(name, 1.0):
                yield name, f"{getattr(self, name)} is out of range: give a value in [0, {limits.get(name, 1.0):g}]"
        if self.padding < 0:
            yield "padding", f"{self.padding} is negative: give a number of pixels, or 0 for random resized crops"
        if self.repeats < 1:
            yield "repeats", f"{self.repeats} is too few: give 1 (each image once a batch) or more"
        if not 0 < self.evaluation_crop <= 1:
            yield "evaluation_crop", f"{self.evaluation_crop} is no share of a side: give a value in (0, 1]"


def build_supervised_view(
    config: AugmentConfig,
    image_size: int | tuple[int, int],
    seed: int,
    *,
    mean: Sequence[float],
    with_geometry: bool = False,
) -> "SupervisedView":
    """Return the training view of `image_size` pixels; `mean` (3 values in 0..1) fills what a policy uncovers.

    `with_geometry` tells where in its image each view lies, for labels of places.
    """
    size = height_and_width(image_size)
    jitter = config.colour_jitter
    ranges = ViewRanges(
        scale=np.array([config.crop_scale]),
        aspect=config.aspect,
        flip=config.flip,
        rotation_degrees=config.rotation_degrees,
        shift=config.shift,
        jitter=float(jitter > 0),
        strengths=(jitter, jitter, jitter, 0.0),
        grey=0.0,
        blur=np.zeros(1),
        blur_sigma=(0.0, 0.0),
        solarize=np.zeros(1),
    )
    policy = build_policy(config.auto_augment, min(size), mean) if config.auto_augment else None
    border = {"zero": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101}[config.padding_mode]
    return SupervisedView(
        ranges,
        size,
        seed,
        padding=config.padding,
        border=border,
        stretch=config.stretch,
        policy=policy,
        erasing=config.erasing,
        with_geometry=with_geometry,
    )


class SupervisedView:
    """Turn images into DeiT's training views: crop, resize, flip, policy, colour, and the rectangle to erase later."""

    def __init__(
        self,
        ranges: ViewRanges,
        size: tuple[int, int],
        seed: int,
        *,
        padding: int,
        border: int,
        stretch: bool,
        policy: Policy | None,
        erasing: float,
        with_geometry: bool = False,
    ) -> None:
        """Take the view's ranges (of one view), its (height, width) in pixels, and what follows the crop."""
        self.ranges, self.size, self.seed, self.with_geometry = ranges, size, seed, with_geometry
        self.padding, self.border, self.stretch = padding, border, stretch
        self.policy, self.erasing = policy, erasing

    def __call__(self, images: Sequence[Tensor], keys: Sequence[SampleKey]) -> Views:
        """Return one (1, B, 3, H, W) block of B (3, H, W) uint8 images, and the erasures."""
        heights, widths = np.array([tuple(image.shape[1:]) for image in images]).T
        drawn = draw_views(self.ranges, heights, widths, draw_uniforms(self.seed, keys, 1, stream="supervised"))[:, 0]
        steps, records = crop_steps(torch.from_numpy(drawn)), drawn.tolist()
        block = torch.empty((1, len(keys), 3, *self.size), dtype=torch.uint8)
        planes = block[0].numpy()
        erasures: list[tuple[tuple[int, ...], Any]] = []
        with global_states_kept():
            for place, (image, key, record) in enumerate(zip(images, keys, records, strict=True)):
                own = generator(self.seed, epoch=key.epoch, index=key.index, repeat=key.repeat, stream="policy")
                crop = self._crop(as_interleaved(image), record, own.random(2).tolist())
                if self.policy is not None:
                    crop = run_policy(self.policy, crop, int(own.integers(2**32)))
                cv2.split(apply_on_crop(crop, steps[place]), list(planes[place]))
                box = draw_erasure(own, self.size, self.erasing)
                if box is not None:
                    erasures.append(((place, *box), own.standard_normal(3 * box[2] * box[3], dtype=np.float32)))
        geometry = self._geometry(np.array(records), heights, widths) if self.with_geometry else None
        return Views([block], [], stack_erasures(erasures) if self.erasing else None, geometry)

    def _geometry(self, records: np.ndarray, heights: np.ndarray, widths: np.ndarray) -> Tensor:
        """Return where the views lie in their images (B, 2, 3), from the (B, P) records that `_crop` left behind."""
        if self.padding:
            sizes = zip(heights, widths, strict=True)
            whole = [whole_after(height, width, self.size, stretch=self.stretch) for height, width in sizes]
            tops, lefts, heights, widths = np.array(whole).T
            records[:, columns.TOP] += tops - self.padding
            records[:, columns.LEFT] += lefts - self.padding
        return torch.from_numpy(view_affines(records, heights, widths))

    def _crop(self, source: Any, record: list[float], place: Sequence[float]) -> Any:
        """Return the (H, W, 3) crop: a random resized one; with padding one cut at `place`, shares of its freedom.

        With padding, the crop is entered into the record, in pixels of the padded image.
        """
        if self.padding:
            source = pad(resize_whole(source, self.size, stretch=self.stretch), self.padding, self.border)
            height, width = source.shape[:2]
            record[columns.TOP] = int(place[0] * (height - self.size[0] + 1))
            record[columns.LEFT] = int(place[1] * (width - self.size[1] + 1))
            record[columns.HEIGHT], record[columns.WIDTH] = self.size
        return crop_and_resize(source, record, self.size)


class EvaluationView:
    """Turn images into evaluation views: resized to cover size / crop ratio (bicubic), or stretched to it; centre crop.

    For a square view, covering means that the shorter side gets that length.
    """

    def __init__(self, image_size: int | tuple[int, int], crop_ratio: float, *, stretch: bool = False) -> None:
        """Take the view's side or (height, width) in pixels, and its share of the resized image's."""
        self.size, self.stretch = height_and_width(image_size), stretch
        self.resized = round(self.size[0] / crop_ratio), round(self.size[1] / crop_ratio)

    def __call__(self, images: Sequence[Tensor], keys: Sequence[SampleKey]) -> Views:
        """Return one (1, B, 3, H, W) uint8 block; nothing is drawn, so the keys have no part in it."""
        block = torch.empty((1, len(images), 3, *self.size), dtype=torch.uint8)
        for view, image in zip(block[0].numpy(), images, strict=True):
            resized = resize_whole(as_interleaved(image), self.resized, stretch=self.stretch)
            top, left = (round((side - kept) / 2) for side, kept in zip(resized.shape[:2], self.size, strict=True))
            cv2.split(resized[top : top + self.size[0], left : left + self.size[1]], list(view))
        return Views([block], [], None)
