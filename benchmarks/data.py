"""DINO's data path on one core: 500x375 JPEGs to 2x224 + 8x96 views, against PIL and torchvision, crop by crop."""

import io
import random

import cv2
import numpy as np
import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms

from benchmarks.timing import Table, compare
from common.data.decode import decode_image
from common.data.sampler import SampleKey
from common.data.views import ViewsConfig, build_multi_crop


def make_jpegs(count: int) -> list[bytes]:
    """Return JPEGs of 500x375 pixels, quality 90, with the detail of a photograph: smooth shapes, edges, some grain."""
    generator = np.random.default_rng(0)
    files = []
    for _ in range(count):
        coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        for _ in range(12):
            x, y = generator.integers(0, 500), generator.integers(0, 375)
            colour = tuple(float(value) for value in generator.integers(0, 255, 3))
            cv2.circle(image, (int(x), int(y)), int(generator.integers(8, 60)), colour, -1)
        image += generator.normal(0, 6, image.shape)
        stream = io.BytesIO()
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files


class PlainViews:
    """The published recipe written plainly: each view by PIL and torchvision, one after another."""

    def __init__(self) -> None:
        jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8)
        self.colour = transforms.Compose([transforms.RandomHorizontalFlip(), jitter, transforms.RandomGrayscale(0.2)])
        self.finish = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
        )

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

    def __call__(self, data: bytes) -> list[torch.Tensor]:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        views = [self.view(image, 224, (0.4, 1.0), 1.0, 0.0), self.view(image, 224, (0.4, 1.0), 0.1, 0.2)]
        return views + [self.view(image, 96, (0.05, 0.4), 0.5, 0.0) for _ in range(8)]


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    files, plain = make_jpegs(16), PlainViews()
    keys = [SampleKey(0, number, number, 0) for number in range(len(files))]
    whole = build_multi_crop(ViewsConfig(), 0, photometry_in_worker=True)
    geometry = build_multi_crop(ViewsConfig(), 0, photometry_in_worker=False)
    rows = compare(
        {
            "plain: PIL and torchvision, crop by crop": lambda: [plain(data) for data in files],
            "ours, everything in the worker (CPU)": lambda: whole([decode_image(d, "jpeg") for d in files], keys),
            "ours, the worker's part for a GPU": lambda: geometry([decode_image(d, "jpeg") for d in files], keys),
            "decoding alone": lambda: [decode_image(data, "jpeg") for data in files],
        },
        repeats=repeats,
        per=len(files),
    )
    decoding, worker = rows[-1].median_ms, rows[2].median_ms
    limit = f"decoding alone is {decoding:.2f} ms an image; the worker's part for a GPU takes {worker / decoding:.1f} times that"
    return [Table("DINO's data path, 500x375 JPEG to 2x224 + 8x96, one core", "ms an image", rows, limit)]
