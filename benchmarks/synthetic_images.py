"""Synthetic images in memory, so that no disk is measured: as PIL images for reference loops, as `Splits` for our trainers."""

import io

import cv2
import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from common.data.images import ImageArray
from common.data.images.collections import Images, PixelImages
from common.data.images.decode import ImageDecoder
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.data.splits.subset import Subset

NUM_DISTINCT = 32
"""Number of distinct JPEGs; a larger collection repeats them."""


class SyntheticImages:
    """`count` deterministic images with some detail: pixels with sides of `side`, or if none JPEGs of 500x375 pixels."""

    def __init__(self, count: int, *, side: int | None, num_classes: int) -> None:
        self.labels = np.arange(count, dtype=np.int64) % num_classes
        self.class_names = tuple(f"class {number:04}" for number in range(num_classes))
        self._pixels = None if side is None else make_pixels(count, side)
        self._files = make_jpegs(NUM_DISTINCT) if side is None else []

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Return an image as torchvision's datasets return it."""
        if self._pixels is not None:
            return Image.fromarray(self._pixels[index])
        return open_image(self._files[index % NUM_DISTINCT])

    def splits(self) -> Splits:
        """Return the images as our trainers take them; all are training images."""
        images: Images = JpegImages(self._files, len(self))
        if self._pixels is not None:
            shapes = np.full((len(self), 2), self._pixels.shape[1], dtype=np.int64)
            images = PixelImages([self._pixels.reshape(-1)], shapes, block_length=len(self), decoder=ImageDecoder())
        train = Split(images=images, labels=self.labels, class_names=self.class_names)
        subset = Subset(indices=np.arange(len(self)), num_images=len(self), class_counts=train.class_counts())
        return Splits(train=train, validation=None, test=None, class_names=self.class_names, subset=subset, excluded={})


class TransformedImages(Dataset[tuple[object, int]]):
    """Images and labels for the loader of a reference loop, with the transform applied to one image at a time."""

    def __init__(self, images: SyntheticImages, transform: object) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.transform(self.images.image(index)), int(self.images.labels[index])


class JpegImages:
    """JPEGs in memory with the interface of `Images`."""

    def __init__(self, files: list[bytes], count: int) -> None:
        self._files, self._count, self.decoder = files, count, ImageDecoder()

    def __len__(self) -> int:
        return self._count

    def decode(self, index: int) -> ImageArray:
        return self.decoder.decode(self.content(index), self.name(index))

    def name(self, index: int) -> str:
        return f"image {index}"

    def file_names(self) -> list[str | None]:
        return [None] * self._count

    def image_ids(self) -> list[str]:
        return [self.name(index) for index in range(self._count)]

    def content(self, index: int) -> bytes:
        return self._files[index % len(self._files)]


def make_pixels(count: int, side: int) -> np.ndarray:
    """Return (count, side, side, 3) uint8: smooth shapes with some noise."""
    generator = np.random.default_rng(0)
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    for image in images:
        coarse = generator.integers(0, 255, (5, 5, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        image[:] = (smooth + generator.normal(0, 6, smooth.shape)).clip(0, 255)
    return images


def make_images(count: int, height: int = 375, width: int = 500) -> list[np.ndarray]:
    """Return (H, W, 3) images with the detail of a photograph: smooth shapes, edges, some noise."""
    generator = np.random.default_rng(0)
    images = []
    for _ in range(count):
        coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        for _ in range(12):
            x, y = generator.integers(0, width), generator.integers(0, height)
            color = tuple(float(value) for value in generator.integers(0, 255, 3))
            cv2.circle(image, (int(x), int(y)), int(generator.integers(8, 60) * width / 500), color, -1)
        image += generator.normal(0, 6, image.shape)
        images.append(image.clip(0, 255).astype(np.uint8))
    return images


def make_jpegs(count: int, height: int = 375, width: int = 500) -> list[bytes]:
    """Return the images of `make_images` as JPEGs of quality 90."""
    files = []
    for image in make_images(count, height, width):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files


def open_image(data: bytes) -> Image.Image:
    """Decode with PIL."""
    return Image.open(io.BytesIO(data)).convert("RGB")
