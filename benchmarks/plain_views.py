"""The published recipes' data paths written plainly, by PIL and torchvision or timm, and the pictures to run them on."""

import io
import random
from importlib.util import find_spec
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def make_pictures(count: int, height: int = 375, width: int = 500) -> list[np.ndarray]:
    """Return (H, W, 3) pictures with the detail of a photograph: smooth shapes, edges, some grain."""
    generator = np.random.default_rng(0)
    pictures = []
    for _ in range(count):
        coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        for _ in range(12):
            x, y = generator.integers(0, width), generator.integers(0, height)
            colour = tuple(float(value) for value in generator.integers(0, 255, 3))
            cv2.circle(image, (int(x), int(y)), int(generator.integers(8, 60) * width / 500), colour, -1)
        image += generator.normal(0, 6, image.shape)
        pictures.append(image.clip(0, 255).astype(np.uint8))
    return pictures


def make_jpegs(count: int, height: int = 375, width: int = 500) -> list[bytes]:
    """Return such pictures as JPEGs of quality 90."""
    files = []
    for picture in make_pictures(count, height, width):
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files


def open_image(data: bytes) -> Image.Image:
    """Decode as the plain programs do."""
    return Image.open(io.BytesIO(data)).convert("RGB")


class PlainViews:
    """DINO's views: each by PIL and torchvision, one after another."""

    def __init__(self, global_size: int = 224, local_size: int = 96, local_count: int = 8) -> None:
        self.global_size, self.local_size, self.local_count = global_size, local_size, local_count
        jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8)
        self.colour = transforms.Compose([transforms.RandomHorizontalFlip(), jitter, transforms.RandomGrayscale(0.2)])
        self.finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])

    def view(
        self, image: Image.Image, size: int, scale: tuple[float, float], blur: float, solarize: float
    ) -> torch.Tensor:
        crop = transforms.RandomResizedCrop(size, scale=scale, interpolation=transforms.InterpolationMode.BICUBIC)
        shown = self.colour(crop(image))
        if random.random() < blur:
            shown = shown.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
        if random.random() < solarize:
            shown = ImageOps.solarize(shown)
        return self.finish(shown)

    def __call__(self, image: Image.Image) -> list[torch.Tensor]:
        whole = (0.4, 1.0)
        views = [
            self.view(image, self.global_size, whole, 1.0, 0.0),
            self.view(image, self.global_size, whole, 0.1, 0.2),
        ]
        locals_ = (self.view(image, self.local_size, (0.05, 0.4), 0.5, 0.0) for _ in range(self.local_count))
        return [*views, *locals_]


def plain_supervised() -> Any:
    """Return timm's own training transform for DeiT's recipe at 224 pixels."""
    from timm.data import create_transform

    policy = "rand-m9-mstd0.5-inc1"
    transform = create_transform(
        224, is_training=True, auto_augment=policy, interpolation="bicubic", re_prob=0.25, re_mode="pixel"
    )
    for part in transform.transforms:
        for step in getattr(part, "ops", ()):
            if step.name.startswith("Posterize"):
                step.aug_fn = _posterize
    return transform


def _posterize(image: Image.Image, bits: int, **_: Any) -> Image.Image:
    """Do as timm does, black for 0 bits, which it draws and Pillow 13 refuses."""
    return ImageOps.posterize(image, bits) if bits else Image.new("RGB", image.size)


def lightly_views() -> Any | None:
    """Return lightly's transform for DINO with its own defaults, which are the paper's; none where it is not installed."""
    if find_spec("lightly") is None:
        return None
    from lightly.transforms import DINOTransform

    return DINOTransform()
