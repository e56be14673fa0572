"""The data path on one core, JPEGs to views: DINO's and the supervised recipe's, against PIL crop by crop; its growth."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks import lightly_dino
from benchmarks.pictures import make_jpegs, make_pictures, open_image
from benchmarks.plain_views import MEAN, PlainViews, plain_supervised
from benchmarks.timing import Row, Table, compare
from common.data.augment import bicubic
from common.data.augment.multi_crop import ViewsConfig, build_multi_crop
from common.data.augment.supervised import AugmentConfig, build_supervised_view
from common.data.images.decode import decode_image
from common.data.loading.loader import view_loader
from common.memory import keep_freed_memory
from common.rng import SampleKey

_UNIT = "ms an image"
_CALLS = 50


def keys_of(files: Sequence[Any]) -> list[SampleKey]:
    """Return the keys of one pass over the files."""
    return [SampleKey(0, number, number, 0) for number in range(len(files))]


def ours(view: Callable[..., Any], files: list[bytes]) -> Callable[[], object]:
    """Return a call that makes the files' views."""
    return lambda: view([decode_image(data, "jpeg") for data in files], keys_of(files))


def dino(repeats: int) -> Table:
    """Measure DINO's recipe."""
    files, plain = make_jpegs(16), PlainViews(ViewsConfig())
    variants: dict[str, Callable[[], object]] = {
        "plain: PIL and torchvision, crop by crop": lambda: [plain(open_image(data)) for data in files],
        "ours, everything in the worker (CPU)": ours(
            build_multi_crop(ViewsConfig(), 0, photometry_in_worker=True), files
        ),
        "ours, the worker's part for a GPU": ours(
            build_multi_crop(ViewsConfig(), 0, photometry_in_worker=False), files
        ),
        "decoding alone": lambda: [decode_image(data, "jpeg") for data in files],
    }
    if lightly_dino.is_installed():
        lightly = lightly_dino.views()
        variants["lightly's DINOTransform"] = lambda: [lightly(open_image(data)) for data in files]
    rows = compare(variants, repeats=repeats, per=len(files))
    return Table("DINO: 500x375 JPEG to 2x224 + 8x96, one core", _UNIT, rows, _limit(rows[3], rows[1], rows[2]))


def supervised(repeats: int) -> Table:
    """Measure DeiT's recipe."""
    files, plain = make_jpegs(32), plain_supervised(224)
    rows = compare(
        {
            "plain: timm's transform on PIL": lambda: [plain(open_image(data)) for data in files],
            "ours": ours(build_supervised_view(AugmentConfig(), 224, 0, mean=MEAN), files),
            "ours without the policy": ours(
                build_supervised_view(AugmentConfig(auto_augment=""), 224, 0, mean=MEAN), files
            ),
            "decoding alone": lambda: [decode_image(data, "jpeg") for data in files],
        },
        repeats=repeats,
        per=len(files),
    )
    return Table("supervised (DeiT): 500x375 JPEG to 224, one core", _UNIT, rows, _limit(rows[3], rows[1]))


def resizing(repeats: int) -> Table:
    """Measure the resizing of DINO's crops alone, ours against PyTorch's, which gives the same pixels."""
    image = make_pictures(1, 375, 500)[0]
    crops = [("a crop of 336x336 to 224", (20, 80, 336, 336), 224), ("one of 202x202 to 96", (90, 150, 202, 202), 96)]
    rows, rates = [], []
    for name, box, side in crops:
        calls = {"PyTorch": bicubic.resize_by_pytorch, "ours": bicubic.resize}
        variants = {
            f"{name}: {whose}": _often(partial(call, image, (side, side), box=box)) for whose, call in calls.items()
        }
        rows += compare(variants, repeats=repeats, per=_CALLS)
        products = 3 * 4 * (box[3] * box[2] + side * box[2])  # 4 taps a pixel of the larger side, across and then down
        rates.append(f"{name}: {products / rows[-1].median_ms / 1e6:.0f}")
    limit = (
        f"a core multiplies 32 pairs of 16 bits with an instruction; billions of products a second: {', '.join(rates)}"
    )
    return Table("bicubic resizing with antialiasing, one core", "ms a crop", rows, limit)


def _often(call: Callable[[], object]) -> Callable[[], object]:
    return lambda: [call() for _ in range(_CALLS)]


def _limit(decoding: Row, *measured: Row) -> str:
    """Say which share of the rate of decoding alone is reached."""
    shares = ", ".join(f"{row.variant}: {decoding.median_ms / row.median_ms:.0%}" for row in measured)
    return f"decoding alone, {1000 / decoding.median_ms:.0f} images a second; share of that rate reached: {shares}"


def growth(repeats: int) -> list[Table]:
    """Measure how DINO's path grows, each setting against the plain way under the same setting."""
    files, large, small = make_jpegs(8), make_jpegs(2, 1500, 2000), make_pictures(64, 32, 32)
    crops = [_pair(f"{count} local views", {"local_count": count}, files, repeats) for count in (0, 4, 8, 16)]
    sizes = [_pair(f"global views of {side} pixels", {"global_size": side}, files, repeats) for side in (96, 224, 384)]
    images = [
        _pair("32x32 pixels in memory, 2x32 + 8x16", {"global_size": 32, "local_size": 16}, small, repeats),
        _pair("500x375 JPEG", {}, files, repeats),
        _pair("2000x1500 JPEG", {}, large, repeats),
    ]
    titles = ("number of local views", "size of the global views", "size of the images")
    limit = "the decoding of an image, the same for any views of it"
    return [
        Table(f"DINO, everything in the worker: {title}", _UNIT, [row for pair in pairs for row in pair], limit)
        for title, pairs in zip(titles, (crops, sizes, images), strict=True)
    ]


def _pair(name: str, changes: dict[str, int], files: Sequence[Any], repeats: int) -> list[Row]:
    """Measure the plain way and ours under one setting; the files are JPEGs, or pixels."""
    config = ViewsConfig(**changes)
    plain, view = PlainViews(config), build_multi_crop(config, 0, photometry_in_worker=True)
    if isinstance(files[0], bytes):
        run_plain, run_ours = (lambda: [plain(open_image(data)) for data in files]), ours(view, list(files))
    else:
        from PIL import Image

        tensors = [torch.from_numpy(pixels).permute(2, 0, 1).contiguous() for pixels in files]
        run_plain = lambda: [plain(Image.fromarray(pixels)) for pixels in files]  # noqa: E731
        run_ours = lambda: view(tensors, keys_of(tensors))  # noqa: E731
    return compare({f"{name}: plain": run_plain, f"{name}: ours": run_ours}, repeats=repeats, per=len(files))


class _Files:
    """JPEGs in memory, as a loader reads them."""

    labels = None

    def __init__(self, files: list[bytes]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> torch.Tensor:
        return decode_image(self.files[index], "jpeg")


def loading(repeats: int) -> Table:
    """Measure the loader: this process alone, and workers beside it."""
    files, view = make_jpegs(16), build_multi_crop(ViewsConfig(), 0, photometry_in_worker=True)
    batches = [keys_of(files)] * 12
    loaders = {
        ("no worker, in this process", "1 worker", "2 workers")[workers]: view_loader(
            _Files(files), view, batches, workers=workers
        )
        for workers in (0, 1, 2)
    }
    variants = {name: (lambda loader=loader: sum(len(batch) for batch in loader)) for name, loader in loaders.items()}
    rows = compare(variants, repeats=max(3, repeats // 2), per=len(files) * len(batches))
    limit = f"{torch.multiprocessing.cpu_count()} cores; " + ", ".join(
        f"{row.variant}: {1000 / row.median_ms:.0f} images a second" for row in rows
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
