"""Duplicates: recall of planted copies, false alarms, time: `python -m benchmarks duplicates [--source FOLDER] [--json FILE]`.

Changed copies of test images are planted among the training images; each is found if it is reported as a duplicate of its original.
Alarms are test images without a planted copy that are reported. Public data sets have duplicates of their own (Barz and Denzler
2020 found them for 3.3% of CIFAR-10's test images), so alarms are an upper bound on false ones: `--alarms FILE.png` shows them.
Two more counts: alarms whose labels differ, and alarms of a control in which all training images are upside down, so that no true
duplicate is left. The times are those of one process; set OMP_NUM_THREADS=1 for one core.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.synthetic_images import make_images
from benchmarks.timing import hardware
from common.data.config import DataConfig
from common.data.images import ImageArray
from common.data.images.collections import PixelImages
from common.data.images.decode import ImageDecoder
from common.data.open_splits import open_splits
from common.data.sources.split import Split
from common.data.splits.duplicates import find_duplicates
from common.data.splits.roles import Splits
from common.data.splits.subset import Subset

Change = Callable[[ImageArray], ImageArray]
SYNTHETIC = 5000, 1000
"""Training and test images, 64 x 64, without --source."""
SHOWN_SIDE, SHOWN_COLUMNS = 64, 10


def resize(image: ImageArray, factor: float, *, interpolation: int) -> ImageArray:
    """Return the image with sides multiplied by `factor`."""
    size = round(image.shape[1] * factor), round(image.shape[0] * factor)
    return np.asarray(cv2.resize(image, size, interpolation=interpolation), np.uint8)


def recompress(image: ImageArray, quality: int) -> ImageArray:
    """Return the image after JPEG compression."""
    data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], np.uint8)


def crop(image: ImageArray, share: float) -> ImageArray:
    """Return the image without `share` of its height and width at every border, at its former size."""
    y, x = (max(1, round(side * share)) for side in image.shape[:2])
    inner = np.ascontiguousarray(image[y:-y, x:-x])
    return np.asarray(cv2.resize(inner, image.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def mirror(image: ImageArray) -> ImageArray:
    """Return the image mirrored."""
    return np.ascontiguousarray(image[:, ::-1])


CHANGES: dict[str, Change] = {
    "same content": lambda image: image,
    "resized to 0.5, area": partial(resize, factor=0.5, interpolation=cv2.INTER_AREA),
    "resized to 0.75, area": partial(resize, factor=0.75, interpolation=cv2.INTER_AREA),
    "resized to 0.75, bilinear": partial(resize, factor=0.75, interpolation=cv2.INTER_LINEAR),
    "resized to 1.5, bicubic": partial(resize, factor=1.5, interpolation=cv2.INTER_CUBIC),
    "resized to 2, bilinear": partial(resize, factor=2, interpolation=cv2.INTER_LINEAR),
    **{f"JPEG of quality {quality}": partial(recompress, quality=quality) for quality in (50, 65, 75, 85, 95)},
    "mirrored": mirror,
    "mirrored, JPEG of quality 50": lambda image: recompress(mirror(image), 50),
    "mirrored, resized to 0.75, quality 75": lambda image: recompress(
        resize(mirror(image), 0.75, interpolation=cv2.INTER_AREA), 75
    ),
    "bonus: brighter and less contrast": lambda image: cv2.convertScaleAbs(image, alpha=0.9, beta=20),
    "bonus: cropped by 3% at each side": partial(crop, share=0.03),
    "bonus: cropped by 6% at each side": partial(crop, share=0.06),
}


def open_images(source: Path | None) -> Splits:
    """Return training and test images in memory, those of a source or synthetic ones."""
    if source is not None:
        config = DataConfig(
            source=str(source), workers=0, validation_fraction=0, cache_megabytes=2**14, duplicates="ignore"
        )
        return replace(open_splits(config, labeled=True), validation=None)
    images = make_images(sum(SYNTHETIC), 64, 64)
    train, test = (in_memory(part, None) for part in (images[: SYNTHETIC[0]], images[SYNTHETIC[0] :]))
    subset = Subset(indices=np.arange(len(train)), num_images=len(train), class_counts={})
    return Splits(train=train, validation=None, test=test, class_names=(), subset=subset, excluded={})


def in_memory(images: Sequence[ImageArray], like: Split | None, labels: Any = None) -> Split:
    """Return images as a split with the classes of `like`."""
    shapes = np.array([image.shape[:2] for image in images], np.int64)
    pixels = np.concatenate([image.reshape(-1) for image in images])
    collection = PixelImages([pixels], shapes, block_length=len(images), decoder=ImageDecoder())
    return Split(images=collection, labels=labels, class_names=like.class_names if like is not None else ())


def plant(splits: Splits, *, per_change: int, seed: int = 0) -> tuple[Splits, dict[str, tuple[int, Any]]]:
    """Return the splits with changed copies after the training images; for each change the first copy and its originals."""
    assert splits.test is not None
    order = np.random.default_rng(seed).permutation(len(splits.test))
    images = [splits.train.image(index) for index in range(len(splits.train))]
    labels = None if splits.train.labels is None else splits.train.labels
    planted = {}
    for number, (name, change) in enumerate(CHANGES.items()):
        originals = order[number * per_change : (number + 1) * per_change]
        planted[name] = len(images), originals
        images += [change(splits.test.image(int(index))) for index in originals]
        if labels is not None and splits.test.labels is not None:
            labels = np.concatenate([labels, splits.test.labels[originals]])
    return replace(splits, train=in_memory(images, splits.train, labels)), planted


def upside_down(split: Split) -> Split:
    """Return the split with all images turned upside down."""
    return in_memory([split.image(index)[::-1] for index in range(len(split))], split, split.labels)


def measure(splits: Splits, *, per_change: int) -> tuple[dict[str, Any], list[tuple[ImageArray, ImageArray]]]:
    """Return the measured figures, and the images of every alarm: test image and partner."""
    assert splits.test is not None
    config = DataConfig(workers=0, duplicates="warn")
    started, cpu = time.perf_counter(), time.process_time()
    find_duplicates(splits, config)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    with_copies, planted = plant(splits, per_change=per_change)
    partners = find_duplicates(with_copies, config).pairs[0].partners()
    recall = {}
    for name, (first, originals) in planted.items():
        found = partners.of_first[first : first + len(originals)]
        recall[name] = round(100 * float((found == originals).mean()), 2)
    others = np.setdiff1d(np.arange(len(splits.test)), np.concatenate([originals for _, originals in planted.values()]))
    alarms = others[partners.of_second[others] >= 0]
    pairs = np.stack([alarms, partners.of_second[alarms]], axis=1).tolist()
    labels, train_labels = splits.test.labels, with_copies.train.labels
    differ = (
        None
        if labels is None or train_labels is None
        else int((labels[alarms] != train_labels[partners.of_second[alarms]]).sum())
    )
    control = find_duplicates(replace(splits, train=upside_down(splits.train)), config).pairs[0].partners()
    total = len(splits.train) + len(splits.test)
    return {
        "train_images": len(splits.train),
        "test_images": len(splits.test),
        "copies_per_change": per_change,
        "recall_percent": recall,
        "test_images_without_copy": len(others),
        "alarms": len(alarms),
        "alarms_percent": round(100 * len(alarms) / len(others), 3),
        "alarms_with_other_label": differ,
        "control_alarms": int((control.of_second >= 0).sum()),
        "control_alarms_percent": round(100 * float((control.of_second >= 0).mean()), 3),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "images_per_cpu_second": round(total / cpu_seconds),
    }, [(splits.test.image(test), with_copies.train.image(train)) for test, train in pairs]


def show_alarms(pairs: Sequence[tuple[ImageArray, ImageArray]], file: Path) -> None:
    """Write a picture of the alarms: the test image on the left, its partner (perhaps mirrored) on the right."""
    rows = -(-len(pairs) // SHOWN_COLUMNS)
    canvas = np.full((rows, SHOWN_SIDE + 8, SHOWN_COLUMNS, 2 * SHOWN_SIDE + 8, 3), 255, np.uint8)
    for number, pair in enumerate(pairs):
        for place, image in enumerate(pair):
            shown = cv2.resize(image, (SHOWN_SIDE, SHOWN_SIDE), interpolation=cv2.INTER_NEAREST)
            row, column = divmod(number, SHOWN_COLUMNS)
            canvas[row, :SHOWN_SIDE, column, place * SHOWN_SIDE : (place + 1) * SHOWN_SIDE] = shown
    cv2.imwrite(str(file), canvas.reshape(rows * (SHOWN_SIDE + 8), -1, 3)[..., ::-1])


def main(arguments: Sequence[str]) -> int:
    """Measure, print the figures and write them; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks duplicates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--source", type=Path, help="a data.source, such as a folder of CIFAR-10; default: synthetic images"
    )
    parser.add_argument("--copies", type=int, default=200, help="planted copies per change (default: %(default)s)")
    parser.add_argument("--alarms", type=Path, metavar="FILE", help="write a picture of the alarms")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    started, cpu = time.perf_counter(), time.process_time()
    splits = open_images(options.source)
    opening = {"seconds_of_reading": time.perf_counter() - started, "cpu_seconds_of_reading": time.process_time() - cpu}
    num_test = len(splits.test) if splits.test is not None else 0
    copies = min(options.copies, num_test // (2 * len(CHANGES)))
    if copies < 1:
        parser.error(f"--source: {num_test} test images are too few; {2 * len(CHANGES)} are needed")
    figures, pairs = measure(splits, per_change=copies)
    figures |= {name: round(value, 2) for name, value in opening.items()}
    print(json.dumps(hardware() | figures, indent=2))
    if options.alarms:
        show_alarms(pairs, options.alarms)
    if options.json:
        source = "synthetic" if options.source is None else options.source.name
        options.json.write_text(json.dumps({"hardware": hardware(), "source": source} | figures, indent=1) + "\n")
    return 0
