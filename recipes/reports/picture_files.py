"""Small pictures in a study's folder: encoded once, kept under figures/, and read from there by later reports.

`pictures.json` beside them says which pictures there are and what they were made from. While that is the same they are not made
again, so that a report can be written without the images, and without decoding any.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.files import path_exists, write_atomic
from common.json_text import to_json

FOLDER = "figures"
INDEX = "pictures.json"
VERSION = 1
"""Version of how pictures are made. Increase it when they change."""
Pixels = npt.NDArray[np.uint8]
"""(H, W, 3) RGB."""


@dataclass(frozen=True)
class Picture:
    """A picture in the study's folder, and as a data URI."""

    file: str
    """Path relative to the study's folder."""
    uri: str


def digest_of(content: Any) -> str:
    """Return a hash of what pictures are made from."""
    return hashlib.blake2b(to_json([VERSION, content], sort_keys=True).encode(), digest_size=8).hexdigest()


def stored_pictures(
    folder: Path, group: str, digest: str, make: Callable[[], Mapping[str, bytes]]
) -> dict[str, Picture]:
    """Return the pictures of a group by name: those in the folder if they were made from the same, otherwise new ones.

    `make` returns the encoded pictures by name, and may raise UserError, which leaves the folder as it is.
    """
    index = _read_index(folder)
    entry = index.get(group)
    if entry is not None and entry["digest"] == digest:
        paths = {name: folder / FOLDER / file for name, file in entry["files"].items()}
        if all(map(path_exists, paths.values())):
            return {name: _picture(path, path.read_bytes()) for name, path in paths.items()}
    encoded = make()
    files = {name: f"{group}_{number}{_suffix(data)}" for number, (name, data) in enumerate(encoded.items(), start=1)}
    (folder / FOLDER).mkdir(exist_ok=True)
    for name, data in encoded.items():
        write_atomic(folder / FOLDER / files[name], data, concurrent_writers=True)
    for old in set(entry["files"].values() if entry else ()) - set(files.values()):
        (folder / FOLDER / old).unlink(missing_ok=True)
    text = to_json({**index, group: {"digest": digest, "files": files}}, indent=2) + "\n"
    write_atomic(folder / FOLDER / INDEX, text, concurrent_writers=True)
    return {name: _picture(folder / FOLDER / files[name], data) for name, data in encoded.items()}


def encode(pixels: Pixels, most_bytes: int) -> bytes:
    """Return an image as PNG if that is small enough, otherwise as JPEG, smaller and smaller until it has at most `most_bytes`."""
    import cv2

    found = cv2.imencode(".png", pixels[:, :, ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()
    while len(found) > most_bytes:
        for quality in (90, 75, 60, 40):
            found = cv2.imencode(".jpg", pixels[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
            if len(found) <= most_bytes:
                return bytes(found)
        height, width = (max(1, round(0.8 * side)) for side in pixels.shape[:2])
        if (height, width) == pixels.shape[:2]:
            break
        pixels = np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return bytes(found)


def fit(pixels: Pixels, side: int) -> Pixels:
    """Return an image whose longer side is about `side`: reduced by area, or enlarged by a whole factor, pixel by pixel."""
    import cv2

    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest <= side:
        factor = max(1, side // longest)
        return np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    size = (max(1, round(width * side / longest)), max(1, round(height * side / longest)))
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def in_a_row(images: Sequence[Pixels], *, gap: int = 4) -> Pixels:
    """Return images side by side on white, aligned at the top."""
    height = max(image.shape[0] for image in images)
    width = sum(image.shape[1] for image in images) + gap * (len(images) - 1)
    row = np.full((height, width, 3), 255, dtype=np.uint8)
    left = 0
    for image in images:
        row[: image.shape[0], left : left + image.shape[1]] = image
        left += image.shape[1] + gap
    return row


def _read_index(folder: Path) -> dict[str, Any]:
    """Return the index of the pictures in a folder; empty if there is none, or none that can be read: they are made again."""
    path = folder / FOLDER / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8")) if path_exists(path) else {}
        return {
            group: {"digest": entry["digest"], "files": {name: _plain(file) for name, file in entry["files"].items()}}
            for group, entry in index.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _plain(file: str) -> str:
    """Return the name of a file in the folder; raise ValueError for a path that leads elsewhere."""
    if Path(file).name != file:
        raise ValueError(file)
    return file


def _suffix(data: bytes) -> str:
    """Return the extension of an encoded picture."""
    return ".png" if data.startswith(b"\x89PNG") else ".jpg"


def _picture(path: Path, data: bytes) -> Picture:
    """Return a picture from its file and content."""
    kind = "png" if path.suffix == ".png" else "jpeg"
    return Picture(f"{FOLDER}/{path.name}", f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}")
