"""Color augmentation alone with the same parameters: PIL and torchvision, the worker's and the device's implementation."""

from dataclasses import replace

import cv2
import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torchvision.transforms import functional

from benchmarks.synthetic_images import make_images
from benchmarks.timing import Row, Table, compare
from common.data.augment import parameters as columns
from common.data.augment.color import apply_on_crop, color_ops
from common.data.augment.color_on_device import apply_on_batch
from common.data.augment.multi_crop import CropsConfig, build_multi_crop
from common.data.augment.parameters import ORDERS, draw_parameters, draw_uniforms
from common.rng import SampleKey

_COUNT = 32


def apply_by_pillow(crop: np.ndarray, numbers: list[float]) -> np.ndarray:
    """Augment a crop by one record of parameters as the published program does."""
    image = Image.fromarray(crop)
    factors = numbers[columns.BRIGHTNESS : columns.SATURATION + 1]
    has_jitter = factors != [1, 1, 1] or numbers[columns.HUE] != 0
    for step in ORDERS[int(numbers[columns.ORDER])] if has_jitter else ():
        if step == 0:
            image = ImageEnhance.Brightness(image).enhance(numbers[columns.BRIGHTNESS])
        elif step == 1:
            image = ImageEnhance.Contrast(image).enhance(numbers[columns.CONTRAST])
        elif step == 2:
            image = ImageEnhance.Color(image).enhance(numbers[columns.SATURATION])
        else:
            image = functional.adjust_hue(image, numbers[columns.HUE])
    if numbers[columns.GRAYSCALE]:
        image = ImageOps.grayscale(image).convert("RGB")
    if numbers[columns.BLUR_SIGMA]:
        image = image.filter(ImageFilter.GaussianBlur(numbers[columns.BLUR_SIGMA]))
    if numbers[columns.SOLARIZE]:
        image = ImageOps.solarize(image)
    return np.asarray(image)


def _table(size: int, views: slice, repeats: int) -> Table:
    """Measure crops of one size with the parameters of these of the paper's ten views."""
    recipe = build_multi_crop(CropsConfig(), 0, color_in_worker=False)
    keys, sides = [SampleKey(0, index, index, 0) for index in range(_COUNT)], np.full(_COUNT, 400)
    uniforms = draw_uniforms(0, keys, recipe.num_views, stream="views")
    drawn = draw_parameters(recipe.ranges, sides, sides, uniforms)[:, views].reshape(-1, columns.NUM_PARAMETERS)[
        :_COUNT
    ]
    crops, records = make_images(_COUNT, size, size), torch.from_numpy(drawn.copy())
    numbers = records.tolist()
    batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()

    def pillow() -> list[np.ndarray]:
        return [apply_by_pillow(crop, record) for crop, record in zip(crops, numbers, strict=True)]

    def worker() -> list[np.ndarray]:
        return [apply_on_crop(crop, steps) for crop, steps in zip(crops, color_ops(records), strict=True)]

    variants = {
        "reference: PIL and torchvision": pillow,
        "in the worker (OpenCV, crop by crop)": worker,
        "on the device (torch, batched), here on the CPU": lambda: _on_device(batch, records),
    }
    if torch.cuda.is_available():
        batch_cuda, records_cuda = batch.cuda(), records.cuda()
        variants["on the device (torch, batched), on the GPU"] = lambda: _on_device(batch_cuda, records_cuda)
    expected = np.stack(pillow()).astype(float)
    rows = compare(variants, repeats=repeats, per=_COUNT)
    with_errors = [_with_error(row, variants[row.variant](), expected) for row in rows[1:]]
    limit = "not measured; errors are relative to PIL with the same parameters, of 255"
    return Table(
        f"color augmentation of {_COUNT} views of {size}x{size}, one core",
        "ms per view",
        [rows[0], *with_errors],
        limit,
    )


def _on_device(batch: torch.Tensor, records: torch.Tensor) -> torch.Tensor:
    """Run the batched implementation and synchronize."""
    images = apply_on_batch(batch, records, sigma_limit=2.0)
    if images.is_cuda:
        torch.cuda.synchronize()
    return images


def _with_error(row: Row, images: object, expected: np.ndarray) -> Row:
    """Return the row with its error relative to PIL in its name."""
    pixels = images.permute(0, 2, 3, 1).cpu().numpy() if isinstance(images, torch.Tensor) else np.stack(images)
    errors = np.abs(pixels - expected)
    return replace(row, variant=f"{row.variant}; error {errors.mean():.2f} mean, {errors.max():.0f} max")


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    return [_table(224, slice(0, 2), repeats), _table(96, slice(2, 10), repeats)]
