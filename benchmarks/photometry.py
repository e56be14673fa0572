"""The photometry alone, the same records by all: PIL and torchvision, the worker's executor, the device's; time and error."""

from dataclasses import replace

import cv2
import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torchvision.transforms import functional

from benchmarks.pictures import make_pictures
from benchmarks.timing import Row, Table, compare
from common.data.augment import parameters as columns
from common.data.augment.color import apply_on_batch, apply_on_crop, crop_steps
from common.data.augment.multi_crop import ViewsConfig, build_multi_crop
from common.data.augment.parameters import ORDERS, draw_uniforms, draw_views
from common.rng import SampleKey

_COUNT = 32


def by_pillow(crop: np.ndarray, numbers: list[float]) -> np.ndarray:
    """Return what the published program makes of a crop by one record."""
    image = Image.fromarray(crop)
    factors = numbers[columns.BRIGHTNESS : columns.SATURATION + 1]
    moved = factors != [1, 1, 1] or numbers[columns.HUE] != 0
    for step in ORDERS[int(numbers[columns.ORDER])] if moved else ():
        if step == 0:
            image = ImageEnhance.Brightness(image).enhance(numbers[columns.BRIGHTNESS])
        elif step == 1:
            image = ImageEnhance.Contrast(image).enhance(numbers[columns.CONTRAST])
        elif step == 2:
            image = ImageEnhance.Color(image).enhance(numbers[columns.SATURATION])
        else:
            image = functional.adjust_hue(image, numbers[columns.HUE])
    if numbers[columns.GREY]:
        image = ImageOps.grayscale(image).convert("RGB")
    if numbers[columns.SIGMA]:
        image = image.filter(ImageFilter.GaussianBlur(numbers[columns.SIGMA]))
    if numbers[columns.SOLARIZE]:
        image = ImageOps.solarize(image)
    return np.asarray(image)


def _table(size: int, views: slice, repeats: int) -> Table:
    """Measure crops of one size with records of these views of the paper's ten."""
    recipe = build_multi_crop(ViewsConfig(), 0, photometry_in_worker=False)
    keys, sides = [SampleKey(0, place, place, 0) for place in range(_COUNT)], np.full(_COUNT, 400)
    uniforms = draw_uniforms(0, keys, recipe.num_views, stream="views")
    drawn = draw_views(recipe.ranges, sides, sides, uniforms)[:, views].reshape(-1, columns.NUM_PARAMETERS)[:_COUNT]
    crops, records = make_pictures(_COUNT, size, size), torch.from_numpy(drawn.copy())
    numbers = records.tolist()
    batch = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous()

    def pillow() -> list[np.ndarray]:
        return [by_pillow(crop, own) for crop, own in zip(crops, numbers, strict=True)]

    def worker() -> list[np.ndarray]:
        return [apply_on_crop(crop, steps) for crop, steps in zip(crops, crop_steps(records), strict=True)]

    executors = {
        "plain: PIL and torchvision": pillow,
        "worker's executor (OpenCV, crop by crop)": worker,
        "device's executor (torch, one batch), here on the CPU": lambda: _on_device(batch, records),
    }
    if torch.cuda.is_available():
        batch_there, records_there = batch.cuda(), records.cuda()
        executors["device's executor on the GPU"] = lambda: _on_device(batch_there, records_there)
    expected = np.stack(pillow()).astype(float)
    rows = compare(executors, repeats=repeats, per=_COUNT)
    named = [_with_error(row, executors[row.variant](), expected) for row in rows[1:]]
    limit = "not measured; errors are against PIL with the same records, of 255"
    return Table(f"photometry of {_COUNT} views of {size}x{size}, one core", "ms a view", [rows[0], *named], limit)


def _on_device(batch: torch.Tensor, records: torch.Tensor) -> torch.Tensor:
    """Run the batch's executor and wait for it."""
    images = apply_on_batch(batch, records, sigma_limit=2.0)
    if images.is_cuda:
        torch.cuda.synchronize()
    return images


def _with_error(row: Row, images: object, expected: np.ndarray) -> Row:
    """Return the row with its error against PIL in its name."""
    pixels = images.permute(0, 2, 3, 1).cpu().numpy() if isinstance(images, torch.Tensor) else np.stack(images)
    errors = np.abs(pixels - expected)
    return replace(row, variant=f"{row.variant}; error {errors.mean():.2f} mean, {errors.max():.0f} max")


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    return [_table(224, slice(0, 2), repeats), _table(96, slice(2, 10), repeats)]
