"""Reference implementation of the published recipes' views: PIL and torchvision or timm, one view at a time.

Random numbers come from Python's and torch's global generators; seed both for reproducible views.
"""

import random
from collections.abc import Callable
from functools import partial

from PIL import Image, ImageFilter, ImageOps
from timm.data import create_transform
from timm.data.auto_augment import RandAugment
from torch import Tensor
from torchvision import transforms

from common.data.augment.multi_crop import CropsConfig

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, used by both papers."""


class ReferenceViews:
    """DINO's views of a PIL image (Caron et al. 2021, appendix) for a recipe, whose defaults are the paper's."""

    def __init__(self, config: CropsConfig, *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD) -> None:
        assert config.degrees == config.translate == 0, "the published program neither rotates nor translates"
        strengths = (config.brightness, config.contrast, config.saturation, config.hue)
        jitter = transforms.RandomApply([transforms.ColorJitter(*strengths)], config.color_jitter_prob)
        self.color = transforms.Compose(
            [
                transforms.RandomHorizontalFlip(config.hflip_prob),
                jitter,
                transforms.RandomGrayscale(config.grayscale_prob),
            ]
        )
        self.finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
        crop = partial(
            transforms.RandomResizedCrop, ratio=config.ratio, interpolation=transforms.InterpolationMode.BICUBIC
        )
        large, small = (
            crop(config.global_size, scale=config.global_scale),
            crop(config.local_size, scale=config.local_scale),
        )
        kinds = [0] + [1] * (config.num_global - 1) + [2] * config.num_local
        self.recipes = [
            ((large, large, small)[kind], config.blur_prob[kind], config.solarize_prob[kind]) for kind in kinds
        ]
        self.blur_sigma = config.blur_sigma

    def view(self, image: Image.Image, crop: transforms.RandomResizedCrop, blur: float, solarize: float) -> Tensor:
        """Return one view (3, S, S), blurred and solarized with these probabilities."""
        view = self.color(crop(image))
        if random.random() < blur:
            view = view.filter(ImageFilter.GaussianBlur(random.uniform(*self.blur_sigma)))
        if random.random() < solarize:
            view = ImageOps.solarize(view)
        return self.finish(view)

    def __call__(self, image: Image.Image) -> list[Tensor]:
        """Return the views, global crops first."""
        return [self.view(image, *recipe) for recipe in self.recipes]


def reference_transform(
    size: int, *, mean: tuple[float, ...] = MEAN, std: tuple[float, ...] = STD
) -> transforms.Compose:
    """Return timm's training transform with DeiT's recipe; small images are padded and cropped, as in DeiT's program."""
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
    """Return the image with `bits` bits per channel: black for 0, which timm draws and Pillow rejects from version 13 on."""
    return keep_bits(image, bits, **settings) if bits > 0 else Image.new(image.mode, image.size)
