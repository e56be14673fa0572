"""Owns synthetic images held in memory, so that no disk is measured: as PIL gives them to a plain loop, as a `Splits` to ours."""

import io

import cv2
import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from common.data.images.collections import Images, PixelImages
from common.data.images.decode import decode_image
from common.data.sources.split import Split
from common.data.splits.roles import Splits
from common.data.splits.subset import Subset

DIFFERENT = 32
"""JPEGs that are made; a larger collection holds them over and over."""


class Pictures:
    """`count` images with some detail, the same at each call: decoded ones of `side` pixels, or JPEGs of 500x375 pixels."""

    def __init__(self, count: int, *, side: int | None, num_classes: int) -> None:
        self.labels = np.arange(count, dtype=np.int64) % num_classes
        self.class_names = tuple(f"class {number:04}" for number in range(num_classes))
        self._pixels = None if side is None else make_pixels(count, side)
        self._files = make_jpegs(DIFFERENT) if side is None else []

    def __len__(self) -> int:
        return len(self.labels)

    def picture(self, index: int) -> Image.Image:
        """Return an image as torchvision's data sets do."""
        if self._pixels is not None:
            return Image.fromarray(self._pixels[index])
        return open_image(self._files[index % DIFFERENT])

    def splits(self) -> Splits:
        """Return the images as our trainers take them; all of them train."""
        images: Images = Files(self._files, len(self))
        if self._pixels is not None:
            block = np.ascontiguousarray(self._pixels.transpose(0, 3, 1, 2))
            shapes = np.full((len(self), 2), block.shape[-1], dtype=np.int64)
            images = PixelImages([block.ravel()], shapes, block_length=len(self))
        train = Split(images=images, labels=self.labels, class_names=self.class_names)
        subset = Subset(indices=np.arange(len(self)), num_images=len(self), class_counts=train.class_counts())
        return Splits(train=train, validation=None, test=None, class_names=self.class_names, subset=subset, left_out={})


class Transformed(Dataset[tuple[object, int]]):
    """Pictures with their labels, as a plain loop's loader reads them: the transform one image at a time."""

    def __init__(self, pictures: Pictures, transform: object) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> tuple[object, int]:
        return self.transform(self.pictures.picture(index)), int(self.pictures.labels[index])


class Files:
    """JPEGs in memory as a collection of images."""

    def __init__(self, files: list[bytes], count: int) -> None:
        self._files, self._count = files, count

    def __len__(self) -> int:
        return self._count

    def decode(self, index: int, *, max_pixels: int) -> Tensor:
        return decode_image(self.content(index), self.name(index), max_pixels=max_pixels)

    def name(self, index: int) -> str:
        return f"picture {index}"

    def file_name(self, index: int) -> str | None:
        return None

    def file_names(self) -> list[str | None]:
        return [None] * self._count

    def content(self, index: int) -> bytes:
        return self._files[index % len(self._files)]


def make_pixels(count: int, side: int) -> np.ndarray:
    """Return (count, side, side, 3) uint8: smooth shapes with some grain."""
    generator = np.random.default_rng(0)
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    for image in images:
        coarse = generator.integers(0, 255, (5, 5, 3), dtype=np.uint8)
        smooth = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        image[:] = (smooth + generator.normal(0, 6, smooth.shape)).clip(0, 255)
    return images


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
