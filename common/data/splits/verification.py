"""Verification and caching of images before training: corrupt images are reported together, decoded ones kept in memory."""

import logging
import math
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from common.data.images.collections import PixelImages, SelectedImages
from common.data.sources.split import Split
from common.data.splits.white_images import is_white, warn_of_white
from common.errors import ProcessError, UserError
from common.rng import generator

_log = logging.getLogger(__name__)

Verify = Literal["auto", "all", "sample", "none"]
MAX_VERIFY_ALL = 20_000
"""Largest number of images that `verify: auto` decodes completely."""
SAMPLE_SIZE = 1_000
_PROBE_SIZE = 64
_MIN_BYTES_FOR_THREADS = 3 * 48 * 48
"""Decoded size below which one thread is faster: threads wait for the GIL more than they gain (32 pixels: 133 us for 104)."""
BLOCK_LENGTH = 256
_MAX_LISTED = 10


class Block(NamedTuple):
    """Decoded consecutive images: flat pixels, (n, 2) heights and widths, errors of corrupt images and white images by index.

    A corrupt image has no pixels, and height and width 0.
    """

    pixels: npt.NDArray[Any]
    shapes: npt.NDArray[np.int64]
    corrupt: dict[int, str]
    white: list[int]


class Found(NamedTuple):
    """What is wrong with images: the errors of corrupt ones by index, and the indices of entirely white ones."""

    corrupt: dict[int, str]
    white: list[int]

    @classmethod
    def of(cls, blocks: Iterable[Block]) -> Self:
        """Return what was found in decoded images."""
        corrupt, white = dict[int, str](), list[int]()
        for block in blocks:
            corrupt |= block.corrupt
            white += block.white
        return cls(corrupt, white)


class VerifiedSplits(NamedTuple):
    """Verified splits, and the names of the corrupt images excluded from validation and test splits, by part."""

    splits: dict[str, Split]
    excluded: dict[str, list[str]]


def verify_and_cache(
    splits: dict[str, Split], *, verify: Verify, cache_bytes: int, threads: int, max_corrupt: float | None
) -> VerifiedSplits:
    """Verify the splits and decode those that fit into memory; `cache_bytes` is a shared budget, used in order.

    Cached splits are decoded, and so verified, completely; for the others, `verify` selects the images that are decoded once
    to find corrupt ones. Without `max_corrupt`, raise one UserError that counts the corrupt images of all splits and names
    the first 10. With it, corrupt training images stay, because the loader replaces them; the other splits are verified
    completely and their corrupt images excluded; raise UserError if a larger fraction of a split than `max_corrupt` is
    corrupt.
    """
    verified = dict(splits)
    corrupt: dict[str, dict[int, str]] = {}
    white: list[str] = []
    num_decoded = 0
    for part, split in splits.items():
        if is_decoded(split):
            continue
        image_bytes = _estimate_bytes(split)
        num_threads = threads if image_bytes >= _MIN_BYTES_FOR_THREADS else 1
        fits = cache_bytes > 0 and len(split) * image_bytes <= cache_bytes
        images, found = _load(split, cache_bytes, num_threads) if fits else (None, None)
        if found is None:
            indices = select_to_verify(len(split), verify if max_corrupt is None or part == "train" else "all")
            _log.info("data: decoding %d of %d %s images once to find corrupt ones", len(indices), len(split), part)
            found = _inspect(split, indices, num_threads)
            num_decoded += len(indices)
        else:
            num_decoded += len(split)
        if images is not None:
            cache_bytes -= images.num_bytes
            verified[part] = replace(split, images=images)
            _log.info("data: %d decoded %s images in memory, %.1f MiB", len(split), part, images.num_bytes / 2**20)
        corrupt[part] = found.corrupt
        white += [split.name(index) for index in found.white]
    warn_of_white(white, num_decoded)
    if max_corrupt is not None:
        return _exclude_corrupt(verified, corrupt, max_corrupt)
    problems = [problem for errors in corrupt.values() for problem in errors.values()]
    if problems:
        raise UserError(_corrupt_message(problems, num_decoded, sum(len(split) for split in splits.values())))
    return VerifiedSplits(verified, {})


def _exclude_corrupt(
    splits: dict[str, Split], corrupt: dict[str, dict[int, str]], max_corrupt: float
) -> VerifiedSplits:
    """Exclude the corrupt images from all splits except training; raise UserError if there are too many."""
    found = {part: errors for part, errors in corrupt.items() if errors}
    problems = [
        max_corrupt_problem(len(errors), len(splits[part]), part, max_corrupt=max_corrupt)
        for part, errors in found.items()
    ]
    if any(problems):
        messages = [message for errors in found.values() for message in errors.values()]
        raise UserError("\n".join([*filter(None, problems), *(f"  {line}" for line in _truncate(messages))]))
    excluded: dict[str, list[str]] = {}
    for part, errors in found.items():
        action = "replaced by other images during training" if part == "train" else "excluded"
        lines = "\n  ".join(_truncate(list(errors.values())))
        _log.warning("data: %d corrupt %s images are %s:\n  %s", len(errors), part, action, lines)
        if part != "train":
            excluded[part] = [splits[part].name(index) for index in sorted(errors)]
            splits[part] = splits[part].select(np.setdiff1d(np.arange(len(splits[part])), list(errors)))
    return VerifiedSplits(splits, excluded)


def select_to_verify(num_images: int, verify: Verify) -> list[int]:
    """Return the indices of the images to decode once: all, a fixed random sample of 1,000, or none; see DataConfig."""
    if verify == "none":
        return []
    if verify == "all" or num_images <= (MAX_VERIFY_ALL if verify == "auto" else SAMPLE_SIZE):
        return list(range(num_images))
    return sorted(generator(0, stream="verify").choice(num_images, SAMPLE_SIZE, replace=False).tolist())


def _corrupt_message(problems: list[str], num_decoded: int, num_images: int) -> str:
    """Return one message that lists the corrupt images of all splits."""
    head = f"data.source: {len(problems)} of the {num_decoded} decoded images (of {num_images}) are corrupt:"
    return "\n  ".join([head, *_truncate(problems)])


def _truncate(lines: list[str]) -> list[str]:
    """Return the first 10 lines, and a last one with the number of the remaining ones."""
    more = [f"and {len(lines) - _MAX_LISTED} more"] if len(lines) > _MAX_LISTED else []
    return [*lines[:_MAX_LISTED], *more]


def is_decoded(split: Split) -> bool:
    """Return whether the images are already decoded in memory."""
    images = split.images.images if isinstance(split.images, SelectedImages) else split.images
    return isinstance(images, PixelImages)


def _estimate_bytes(split: Split) -> float:
    """Return the mean size of a decoded image in bytes, estimated from at most 64 evenly spaced ones."""
    probe = np.unique(np.linspace(0, len(split) - 1, min(_PROBE_SIZE, len(split))).astype(np.int64))
    blocks = list(_decode(split, probe.tolist(), 1, keep=True))
    num_valid = sum(len(block.shapes) - len(block.corrupt) for block in blocks)
    return sum(block.pixels.nbytes for block in blocks) / max(1, num_valid)


def _load(split: Split, cache_bytes: int, threads: int) -> tuple[PixelImages | None, Found | None]:
    """Return all images decoded, and what was found; (None, None) if they need more than `cache_bytes`."""
    blocks: list[Block] = []
    num_bytes = 0
    for block in _decode(split, list(range(len(split))), threads, keep=True):
        blocks.append(block)
        num_bytes += block.pixels.nbytes
        if num_bytes > cache_bytes:
            return None, None
    found = Found.of(blocks)
    shapes = np.concatenate([block.shapes for block in blocks]) if blocks else np.zeros((0, 2), np.int64)
    pixels = [block.pixels for block in blocks]
    images = PixelImages(
        pixels,
        shapes,
        block_length=BLOCK_LENGTH,
        decoder=split.images.decoder,
        origin=split.images,
        corrupt=found.corrupt,
    )
    return images, found


def _inspect(split: Split, indices: list[int], threads: int) -> Found:
    """Return what is wrong with the images at `indices`."""
    return Found.of(_decode(split, indices, threads, keep=False))


def _decode(split: Split, indices: list[int], threads: int, *, keep: bool) -> Iterator[Block]:
    """Yield the decoded images at `indices`, in blocks and in order; without pixels unless `keep`.

    Threads suffice, because the decoders release the GIL. Pending blocks are canceled when the caller stops early, or a signal
    ends the run, and those that are being decoded end with the next image.
    """
    is_over = threading.Event()
    groups = [indices[start : start + BLOCK_LENGTH] for start in range(0, len(indices), BLOCK_LENGTH)]
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(lambda group: _decode_block(split, group, is_over, keep=keep), groups)
    finally:
        is_over.set()
        pool.shutdown(cancel_futures=True)


def _decode_block(split: Split, indices: list[int], is_over: threading.Event, *, keep: bool) -> Block:
    """Decode the images at `indices` one after the other, until nobody needs them."""
    pixels: list[npt.NDArray[Any]] = []
    shapes: list[tuple[int, ...]] = []
    corrupt: dict[int, str] = {}
    white: list[int] = []
    for index in indices:
        if is_over.is_set():
            break
        try:
            image = split.image(index)
        except ProcessError:
            raise
        except UserError as error:
            corrupt[index] = str(error)
            image = None
        if image is not None and is_white(image):
            white.append(index)
        if keep:
            shapes.append((0, 0) if image is None else image.shape[:2])
        if keep and image is not None:
            pixels.append(image.reshape(-1))
    flat = np.concatenate(pixels) if pixels else np.zeros(0, np.uint8)
    return Block(flat, np.array(shapes, dtype=np.int64).reshape(-1, 2), corrupt, white)


def max_corrupt_problem(num_corrupt: int, num_images: int, part: str, *, max_corrupt: float) -> str | None:
    """Return an error message if more than the fraction `max_corrupt` of the images of `part` is corrupt, else None."""
    if num_corrupt <= max_corrupt * num_images:
        return None
    least = math.ceil(1000 * num_corrupt / num_images) / 1000
    remedy = f", or set data.max_corrupt to {least:g} or more" if least < 1 else ""
    return (
        f"data.max_corrupt = {max_corrupt:g}: {num_corrupt} of the {num_images} {part} images are corrupt. Restore or remove"
        f" them{remedy}."
    )
