"""Data path on one core, from JPEGs to views: DINO's and the supervised recipe's, compared with PIL crop by crop; scaling."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks import lightly_dino
from benchmarks.reference_views import MEAN, ReferenceViews, reference_transform
from benchmarks.synthetic_images import make_images, make_jpegs, open_image
from benchmarks.timing import Row, Table, compare
from common.cores import available_cores
from common.data.augment import bicubic
from common.data.augment.multi_crop import CropsConfig, build_multi_crop
from common.data.augment.supervised import AugmentConfig, build_supervised_transform
from common.data.images import ImageArray
from common.data.images.decode import ImageDecoder
from common.data.loading.loader import build_loader
from common.memory import keep_freed_memory
from common.rng import SampleKey

_UNIT = "ms per image"
_CALLS = 50
DECODER = ImageDecoder()


def keys_of(files: Sequence[Any]) -> list[SampleKey]:
    """Return the sample keys of one pass over the files."""
    return [SampleKey(0, number, number, 0) for number in range(len(files))]


def ours(view: Callable[..., Any], files: list[bytes]) -> Callable[[], object]:
    """Return a function that computes the files' views."""
    return lambda: view([DECODER.decode(data, "jpeg") for data in files], keys_of(files))


def dino(repeats: int) -> Table:
    """Measure DINO's recipe."""
    files, reference = make_jpegs(16), ReferenceViews(CropsConfig())
    own = {
        "ours, everything in the worker (CPU)": ours(build_multi_crop(CropsConfig(), 0, color_in_worker=True), files),
        "ours, the worker's part for a GPU": ours(build_multi_crop(CropsConfig(), 0, color_in_worker=False), files),
    }
    variants: dict[str, Callable[[], object]] = {
        "reference: PIL and torchvision, crop by crop": lambda: [reference(open_image(data)) for data in files],
        **own,
        "decoding alone": lambda: [DECODER.decode(data, "jpeg") for data in files],
    }
    if lightly_dino.is_installed():
        lightly = lightly_dino.views()
        variants["lightly's DINOTransform"] = lambda: [lightly(open_image(data)) for data in files]
    for kernel in bicubic.VARIANTS:
        if kernel != bicubic.chosen_variant():
            variants |= {f"{name}, resized in {kernel}": _resizing_in(kernel, call) for name, call in own.items()}
    rows = compare(variants, repeats=repeats, per=len(files))
    return Table("DINO: 500x375 JPEG to 2x224 + 8x96, one core", _UNIT, rows, _limit(rows[3], rows[1], rows[2]))


def _resizing_in(kernel: str, call: Callable[[], object]) -> Callable[[], object]:
    """Return a function that does the same with another variant of the resizing kernel, as on other processors."""

    def held() -> object:
        chosen = bicubic.chosen_variant
        bicubic.chosen_variant = lambda: kernel  # type: ignore[assignment]
        try:
            return call()
        finally:
            bicubic.chosen_variant = chosen

    return held


def supervised(repeats: int) -> Table:
    """Measure DeiT's recipe."""
    files, reference = make_jpegs(32), reference_transform(224)
    rows = compare(
        {
            "reference: timm's transform on PIL": lambda: [reference(open_image(data)) for data in files],
            "ours": ours(build_supervised_transform(AugmentConfig(), 224, 0, mean=MEAN), files),
            "ours without the policy": ours(
                build_supervised_transform(AugmentConfig(auto_augment=""), 224, 0, mean=MEAN), files
            ),
            "decoding alone": lambda: [DECODER.decode(data, "jpeg") for data in files],
        },
        repeats=repeats,
        per=len(files),
    )
    return Table("supervised (DeiT): 500x375 JPEG to 224, one core", _UNIT, rows, _limit(rows[3], rows[1]))


def resizing(repeats: int) -> Table:
    """Measure resizing of DINO's crops alone, by each variant of the kernel and by PyTorch, which computes the same pixels."""
    image = make_images(1, 375, 500)[0]
    crops = [("a crop of 336x336 to 224", (20, 80, 336, 336), 224), ("one of 202x202 to 96", (90, 150, 202, 202), 96)]
    calls: dict[str, Callable[..., Any]] = {"PyTorch": bicubic.resize_by_pytorch}
    calls |= {f"ours, {name}": partial(bicubic.resize_by_kernel, variant=name) for name in bicubic.VARIANTS}
    rows, rates = [], []
    for name, box, side in crops:
        variants = {
            f"{name}: {implementation}": _repeat(partial(call, image, (side, side), box=box))
            for implementation, call in calls.items()
        }
        rows += (measured := compare(variants, repeats=repeats, per=_CALLS))
        products = (
            3 * 4 * (box[3] * box[2] + side * box[2])
        )  # 4 taps per pixel of the larger side, horizontally, vertically
        rates += [f"{row.variant}: {products / row.median_ms / 1e6:.0f}" for row in measured]
    limit = (
        "a core multiplies 32 pairs of 16-bit numbers per instruction of AVX-512, 16 of AVX2; giga-products/s: "
        + ", ".join(rates)
    )
    title = f"bicubic resizing with antialiasing, one core (in use: {bicubic.description()})"
    return Table(title, "ms per crop", rows, limit)


def _repeat(call: Callable[[], object]) -> Callable[[], object]:
    return lambda: [call() for _ in range(_CALLS)]


def _limit(decoding: Row, *measured: Row) -> str:
    """Describe the fraction of the rate of decoding alone that is reached."""
    fractions = ", ".join(f"{row.variant}: {decoding.median_ms / row.median_ms:.0%}" for row in measured)
    return f"decoding alone, {1000 / decoding.median_ms:.0f} images/s; fraction of that rate reached: {fractions}"


def growth(repeats: int) -> list[Table]:
    """Measure how DINO's data path scales, at each setting compared with the reference implementation at that setting."""
    files, large, small = make_jpegs(8), make_jpegs(2, 1500, 2000), make_images(64, 32, 32)
    crops = [_pair(f"{count} local views", {"num_local": count}, files, repeats) for count in (0, 4, 8, 16)]
    sizes = [_pair(f"global views of {side} pixels", {"global_size": side}, files, repeats) for side in (96, 224, 384)]
    images = [
        _pair("32x32 pixels in memory, 2x32 + 8x16", {"global_size": 32, "local_size": 16}, small, repeats),
        _pair("500x375 JPEG", {}, files, repeats),
        _pair("2000x1500 JPEG", {}, large, repeats),
    ]
    titles = ("number of local views", "size of the global views", "size of the images")
    limit = "decoding of the image, the same for all views"
    return [
        Table(f"DINO, everything in the worker: {title}", _UNIT, [row for pair in pairs for row in pair], limit)
        for title, pairs in zip(titles, (crops, sizes, images), strict=True)
    ]


def _pair(name: str, changes: dict[str, int], files: Sequence[Any], repeats: int) -> list[Row]:
    """Measure the reference implementation and ours at one setting; the files are JPEGs or pixels."""
    config = CropsConfig(**changes)
    reference, view = ReferenceViews(config), build_multi_crop(config, 0, color_in_worker=True)
    if isinstance(files[0], bytes):
        run_reference, run_ours = (lambda: [reference(open_image(data)) for data in files]), ours(view, list(files))
    else:
        from PIL import Image

        run_reference = lambda: [reference(Image.fromarray(pixels)) for pixels in files]  # noqa: E731
        run_ours = lambda: view(list(files), keys_of(list(files)))  # noqa: E731
    return compare({f"{name}: reference": run_reference, f"{name}: ours": run_ours}, repeats=repeats, per=len(files))


class _Files:
    """JPEGs in memory, with the interface of a split."""

    labels = None

    def __init__(self, files: list[bytes]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> ImageArray:
        return DECODER.decode(self.files[index], "jpeg")


def loading(repeats: int) -> Table:
    """Measure the data loader, in this process and with workers."""
    files, view = make_jpegs(16), build_multi_crop(CropsConfig(), 0, color_in_worker=True)
    batches = [keys_of(files)] * 12
    loaders = {
        ("no worker, in this process", "1 worker", "2 workers")[workers]: build_loader(
            _Files(files), view, batches, workers=workers
        )
        for workers in (0, 1, 2)
    }
    variants = {name: (lambda loader=loader: sum(len(batch) for batch in loader)) for name, loader in loaders.items()}
    rows = compare(variants, repeats=max(3, repeats // 2), per=len(files) * len(batches))
    limit = f"{available_cores()} cores; " + ", ".join(
        f"{row.variant}: {1000 / row.median_ms:.0f} images/s" for row in rows
    )
    return Table("DINO through the loader, everything in the worker, batch 16", _UNIT, rows, limit)


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    keep_freed_memory()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    return [dino(repeats), supervised(repeats), resizing(repeats), *growth(max(3, repeats // 2)), loading(repeats)]
