"""Synthetic datasets for measuring start-up: as many rows as ImageNet, which repeat a few small images."""

import io
import os
import tarfile
from pathlib import Path

import cv2
import numpy as np

NUM_DISTINCT = 64
"""Number of distinct images of a dataset; the rows repeat them."""
SIDE = 12
"""Side of an image in pixels: 12 x 12 x 3 pixels of noise are about 500 bytes as PNG."""


def encoded_images() -> list[bytes]:
    """Return the distinct images as PNG."""
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_DISTINCT, SIDE, SIDE, 3), dtype=np.uint8)
    return [cv2.imencode(".png", image)[1].tobytes() for image in pixels]


def write_tables(folder: Path, *, rows: int, classes: int, shards: int) -> None:
    """Write parquet shards in the hub's format for images: a struct of bytes and path, and a ClassLabel column, shuffled."""
    import datasets
    import pyarrow
    import pyarrow.parquet

    generator, images = np.random.default_rng(1), pyarrow.array(encoded_images(), pyarrow.binary())
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=[f"class {number:04d}" for number in range(classes)]),
        }
    )
    labels = generator.permutation(np.arange(rows) % classes)
    edges = np.linspace(0, rows, shards + 1).astype(int)
    for shard, (first, last) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        numbers = pyarrow.array(generator.integers(0, NUM_DISTINCT, last - first))
        paths = pyarrow.array([f"image_{number:07d}.png" for number in range(first, last)])
        column = pyarrow.StructArray.from_arrays([images.take(numbers), paths], names=["bytes", "path"])
        table = pyarrow.table({"image": column, "label": labels[first:last]}, schema=features.arrow_schema)
        name = f"train-{shard:05d}-of-{shards:05d}.parquet"
        pyarrow.parquet.write_table(table, folder / name, compression="snappy", row_group_size=1000)


def write_folders(folder: Path, *, files: int, classes: int) -> None:
    """Write class folders of image files: hard links to a few files, which use no disk blocks."""
    originals = folder.parent / f"{folder.name} originals"
    originals.mkdir(parents=True)
    for number, data in enumerate(encoded_images()):
        (originals / f"{number}.png").write_bytes(data)
    for label in range(classes):
        class_folder = folder / f"class {label:04d}"
        class_folder.mkdir(parents=True)
        for number in range(label, files, classes):
            os.link(originals / f"{number // classes % NUM_DISTINCT}.png", class_folder / f"image_{number:07d}.png")


def write_tar(path: Path, *, images: int, classes: int) -> None:
    """Write a tar shard in the layout of webdataset: an image and the text of its label for each name."""
    encoded = encoded_images()
    with tarfile.open(path, "w") as tar:
        for number in range(images):
            name = f"image_{number:07d}"
            for extension, data in (("png", encoded[number % NUM_DISTINCT]), ("cls", str(number % classes).encode())):
                info = tarfile.TarInfo(f"{name}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
