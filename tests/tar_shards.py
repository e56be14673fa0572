"""Small tar shards in the layout of webdataset."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image


def png(value: int) -> bytes:
    """Return a tiny encoded image of one color."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def write_shard(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar file with these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_labeled(path: Path, numbers: range, *, classes: int = 2) -> Path:
    """Write a shard with an image of color `number` and its label `number % classes` for each number."""
    members = dict[str, bytes]()
    for number in numbers:
        members |= {f"image_{number:04d}.png": png(number), f"image_{number:04d}.cls": str(number % classes).encode()}
    return write_shard(path, members)
