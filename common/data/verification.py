"""Owns what happens to the images before training: broken ones are reported together, the rest may be cached."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images import PixelImages, SelectedImages
from common.data.keyed import generator
from common.data.split import Split
from common.errors import UserError

_log = logging.getLogger(__name__)

Verify = Literal["auto", "all", "sample", "none"]
ALL_UP_TO = 20_000
SAMPLE = 1_000
_PROBE = 64
BLOCK_LENGTH = 256
_NAMED = 10


class Block(NamedTuple):
    """What decoding some consecutive images gave: flat pixels, (n, 2) heights and widths, and the errors met."""

    pixels: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int64]
    problems: list[str]


def verify_and_cache(splits: dict[str, Split], *, verify: Verify, cache_bytes: int, threads: int) -> dict[str, Split]:
    """Return the splits, those that fit decoded into memory; `cache_bytes` is shared in the order of the splits.

    What is cached is decoded, and so verified, in whole; of the rest, `verify` says which images are decoded once to
    find broken ones. Raise one UserError that counts the broken images of all splits and names the first 10.
    """
    prepared = dict(splits)
    problems: list[str] = []
    looked_at = 0
    for part, split in splits.items():
        if _is_decoded(split):
            continue
        fits = cache_bytes > 0 and _estimate_bytes(split) <= cache_bytes
        images, found = _load(split, cache_bytes, threads) if fits else (None, None)
        if found is None:
            chosen = choose_to_verify(len(split), verify)
            _log.info("data: decoding %d of %d %s images once, to find broken ones", len(chosen), len(split), part)
            found = [problem for block in _decode(split, chosen, threads, keep=False) for problem in block.problems]
            looked_at += len(chosen)
        else:
            looked_at += len(split)
        if images is not None:
            cache_bytes -= images.num_bytes
            prepared[part] = replace(split, images=images)
            _log.info("data: %d decoded %s images in memory, %.1f MiB", len(split), part, images.num_bytes / 2**20)
        problems += found
    if problems:
        raise UserError(_report(problems, looked_at, sum(len(split) for split in splits.values())))
    return prepared


def choose_to_verify(num_images: int, verify: Verify) -> list[int]:
    """Return the positions that are decoded once: all, a fixed random sample of 1,000, or none; see DataConfig."""
    if verify == "none":
        return []
    if verify == "all" or num_images <= (ALL_UP_TO if verify == "auto" else SAMPLE):
        return list(range(num_images))
    return sorted(generator(0, stream="verify").choice(num_images, SAMPLE, replace=False).tolist())


def _report(problems: list[str], looked_at: int, total: int) -> str:
    """Return the words for all broken images at once."""
    more = f"\n  and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return (
        f"data.source: {len(problems)} of the {looked_at} images looked at (of {total}) cannot be used:\n  "
        + "\n  ".join(problems[:_NAMED])
        + more
    )


def _is_decoded(split: Split) -> bool:
    """Say whether the images are pixels in memory already."""
    images = split.images.images if isinstance(split.images, SelectedImages) else split.images
    return isinstance(images, PixelImages)


def _estimate_bytes(split: Split) -> float:
    """Return the size of the decoded images in bytes, judged by at most 64 evenly spaced ones."""
    probe = np.unique(np.linspace(0, len(split) - 1, min(_PROBE, len(split))).astype(np.int64))
    blocks = list(_decode(split, probe.tolist(), 1, keep=True))
    return len(split) * sum(block.pixels.size for block in blocks) / max(1, sum(len(block.shapes) for block in blocks))


def _load(split: Split, cache_bytes: int, threads: int) -> tuple[PixelImages | None, list[str] | None]:
    """Return all images decoded and the errors met.

    There are no images when one is broken, and neither images nor errors when they take more than `cache_bytes`.
    """
    blocks: list[Block] = []
    taken = 0
    for block in _decode(split, list(range(len(split))), threads, keep=True):
        blocks.append(block)
        taken += block.pixels.size
        if taken > cache_bytes:
            return None, None
    problems = [problem for block in blocks for problem in block.problems]
    if problems:
        return None, problems
    shapes = np.concatenate([block.shapes for block in blocks]) if blocks else np.zeros((0, 2), np.int64)
    pixels = [block.pixels for block in blocks]
    return PixelImages(pixels, shapes, block_length=BLOCK_LENGTH, origin=split.images), []


def _decode(split: Split, indices: list[int], threads: int, *, keep: bool) -> Iterator[Block]:
    """Yield what the images at `indices` decode to, in blocks and in order; without pixels unless `keep`.

    Threads are enough: the decoders let go of Python's lock. What is left when the caller stops early is cancelled.
    """
    groups = [indices[start : start + BLOCK_LENGTH] for start in range(0, len(indices), BLOCK_LENGTH)]
    pool = ThreadPoolExecutor(threads)
    try:
        yield from pool.map(lambda group: _decode_block(split, group, keep=keep), groups)
    finally:
        pool.shutdown(cancel_futures=True)


def _decode_block(split: Split, indices: list[int], *, keep: bool) -> Block:
    """Decode a few images one after the other."""
    pixels: list[npt.NDArray[np.uint8]] = []
    shapes: list[tuple[int, ...]] = []
    problems: list[str] = []
    for index in indices:
        try:
            image = split.image(index)
        except UserError as error:
            problems.append(str(error))
            continue
        if keep:
            pixels.append(image.numpy().reshape(-1))
            shapes.append(tuple(image.shape[1:]))
    flat = np.concatenate(pixels) if pixels else np.zeros(0, np.uint8)
    return Block(flat, np.array(shapes, dtype=np.int64).reshape(-1, 2), problems)
