"""Owns the published recipes' views written plainly: PIL and torchvision or timm, image by image and view by view.

The draws come from Python's and torch's global generators; seed both for a stream that can be repeated.
"""

import random
from collections.abc import Callable
from functools import partial

from PIL import Image, ImageFilter, ImageOps
from timm.data import create_transform
from timm.data.auto_augment import RandAugment
from torch import Tensor
from torchvision import transforms

from common.data.augment.multi_crop import ViewsConfig

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which both papers normalise by."""


class PlainViews:
    """DINO's views of a PIL image (Caron et al. 2021, appendix) by the numbers of a recipe, whose defaults are the paper's."""

    def __init__(self, config: ViewsConfig, *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> None:
        assert config.rotation_degrees == config.shift == 0, "the published program neither turns nor shifts"
        strengths = (config.brightness, config.contrast, config.saturation, config.hue)
        jitter = transforms.RandomApply([transforms.ColorJitter(*strengths)], config.jitter_probability)
        self.colour = transforms.Compose(
            [transforms.RandomHorizontalFlip(config.flip), jitter, transforms.RandomGrayscale(config.grey)]
        )
        self.finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
        crop = partial(
            transforms.RandomResizedCrop, ratio=config.aspect, interpolation=transforms.InterpolationMode.BICUBIC
        )
        large, small = (
            crop(config.global_size, scale=config.global_scale),
            crop(config.local_size, scale=config.local_scale),
        )
        kinds = [0] + [1] * (config.global_count - 1) + [2] * config.local_count
        self.recipes = [((large, large, small)[kind], config.blur[kind], config.solarize[kind]) for kind in kinds]
        self.blur_sigma = config.blur_sigma

    def view(self, image: Image.Image, crop: transforms.RandomResizedCrop, blur: float, solarize: float) -> Tensor:
        """Return one view (3, S, S), blurred and solarized with these probabilities."""
        shown = self.colour(crop(image))
        if random.random() < blur:
            shown = shown.filter(ImageFilter.GaussianBlur(random.uniform(*self.blur_sigma)))
        if random.random() < solarize:
            shown = ImageOps.solarize(shown)
        return self.finish(shown)

    def __call__(self, image: Image.Image) -> list[Tensor]:
        """Return the views, the global ones first."""
        return [self.view(image, *recipe) for recipe in self.recipes]


def plain_supervised(size: int, *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> transforms.Compose:
    """Return DeiT's view of a PIL image by timm's transform; small images are padded and cut, as DeiT's program does."""
    transform = create_transform(
        input_size=size,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        color_jitter=None,
        interpolation="bicubic",
        mean=mean,
        std=std,
        re_prob=0.25,
        re_mode="pixel",
    )
    if size <= 32:
        transform.transforms[0] = transforms.RandomCrop(size, padding=4)
    [policy] = [step for step in transform.transforms if isinstance(step, RandAugment)]
    for step in policy.ops:
        if step.name.startswith("Posterize"):
            step.aug_fn = partial(_posterize, step.aug_fn)
    return transform


def _posterize(keep_bits: Callable[..., Image.Image], image: Image.Image, bits: int, **settings: object) -> Image.Image:
    """Return the image with `bits` bits a colour, black at 0, which timm draws and Pillow refuses from version 13 on."""
    return keep_bits(image, bits, **settings) if bits > 0 else Image.new(image.mode, image.size)
