"""Owns what happens to the images before training: broken ones are reported together, the rest may be cached."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images.collections import PixelImages, SelectedImages
from common.data.sources.split import Split
from common.errors import UserError
from common.rng import generator

_log = logging.getLogger(__name__)

Verify = Literal["auto", "all", "sample", "none"]
ALL_UP_TO = 20_000
SAMPLE = 1_000
_PROBE = 64
_WORTH_THREADS = 3 * 48 * 48
"""Bytes of an image below which threads that decode wait for Python's lock more than they gain (32 pixels: 133 us for 104)."""
BLOCK_LENGTH = 256
_NAMED = 10


class Block(NamedTuple):
    """What decoding some consecutive images gave: flat pixels, (n, 2) heights and widths, and the errors by position.

    A broken image has no pixels, and height and width 0.
    """

    pixels: npt.NDArray[np.uint8]
    shapes: npt.NDArray[np.int64]
    broken: dict[int, str]


class Ready(NamedTuple):
    """Splits that may be trained on, and the names of the broken images left out of those only looked at, by part."""

    splits: dict[str, Split]
    left_out: dict[str, list[str]]


def verify_and_cache(
    splits: dict[str, Split], *, verify: Verify, cache_bytes: int, threads: int, max_errors: float | None
) -> Ready:
    """Return the splits, those that fit decoded into memory; `cache_bytes` is shared in the order of the splits.

    What is cached is decoded, and so verified, in whole; of the rest, `verify` says which images are decoded once to
    find broken ones. Without `max_errors`, raise one UserError that counts the broken images of all splits and names
    the first 10. Otherwise broken training images stay, for the loader replaces them; the other splits are verified in
    whole, and lose theirs; and UserError is raised for a split of which a larger share than `max_errors` is broken.
    """
    prepared = dict(splits)
    broken: dict[str, dict[int, str]] = {}
    looked_at = 0
    for part, split in splits.items():
        if _is_decoded(split):
            continue
        image_bytes = _estimate_bytes(split)
        workers = threads if image_bytes >= _WORTH_THREADS else 1
        fits = cache_bytes > 0 and len(split) * image_bytes <= cache_bytes
        images, found = _load(split, cache_bytes, workers) if fits else (None, None)
        if found is None:
            chosen = choose_to_verify(len(split), verify if max_errors is None or part == "train" else "all")
            _log.info("data: decoding %d of %d %s images once, to find broken ones", len(chosen), len(split), part)
            found = _find_broken(split, chosen, workers)
            looked_at += len(chosen)
        else:
            looked_at += len(split)
        if images is not None:
            cache_bytes -= images.num_bytes
            prepared[part] = replace(split, images=images)
            _log.info("data: %d decoded %s images in memory, %.1f MiB", len(split), part, images.num_bytes / 2**20)
        broken[part] = found
    if max_errors is not None:
        return _leave_out(prepared, broken, max_errors)
    problems = [problem for found in broken.values() for problem in found.values()]
    if problems:
        raise UserError(_report(problems, looked_at, sum(len(split) for split in splits.values())))
    return Ready(prepared, {})


def _leave_out(splits: dict[str, Split], broken: dict[str, dict[int, str]], max_errors: float) -> Ready:
    """Take the broken images out of all splits but the training one; raise UserError where they are too many."""
    found = {part: errors for part, errors in broken.items() if errors}
    problems = [
        bound_problem(len(errors), len(splits[part]), part, max_errors=max_errors) for part, errors in found.items()
    ]
    if any(problems):
        names = [text for errors in found.values() for text in errors.values()]
        raise UserError("\n".join([*filter(None, problems), *(f"  {line}" for line in _first(names))]))
    left_out: dict[str, list[str]] = {}
    for part, errors in found.items():
        fate = "replaced by others wherever they come" if part == "train" else "left out"
        lines = "\n  ".join(_first(list(errors.values())))
        _log.warning("data: %d broken %s images are %s:\n  %s", len(errors), part, fate, lines)
        if part != "train":
            left_out[part] = [splits[part].name(index) for index in sorted(errors)]
            splits[part] = splits[part].select(np.setdiff1d(np.arange(len(splits[part])), list(errors)))
    return Ready(splits, left_out)


def choose_to_verify(num_images: int, verify: Verify) -> list[int]:
    """Return the positions that are decoded once: all, a fixed random sample of 1,000, or none; see DataConfig."""
    if verify == "none":
        return []
    if verify == "all" or num_images <= (ALL_UP_TO if verify == "auto" else SAMPLE):
        return list(range(num_images))
    return sorted(generator(0, stream="verify").choice(num_images, SAMPLE, replace=False).tolist())


def _report(problems: list[str], looked_at: int, total: int) -> str:
    """Return the words for all broken images at once."""
    head = f"data.source: {len(problems)} of the {looked_at} images looked at (of {total}) cannot be used:"
    return "\n  ".join([head, *_first(problems)])


def _first(lines: list[str]) -> list[str]:
    """Return the first 10 lines, and one that says how many more there are."""
    more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    return [*lines[:_NAMED], *more]


def _is_decoded(split: Split) -> bool:
    """Say whether the images are pixels in memory already."""
    images = split.images.images if isinstance(split.images, SelectedImages) else split.images
    return isinstance(images, PixelImages)


def _estimate_bytes(split: Split) -> float:
    """Return the mean size of a decoded image in bytes, judged by at most 64 evenly spaced ones."""
    probe = np.unique(np.linspace(0, len(split) - 1, min(_PROBE, len(split))).astype(np.int64))
    blocks = list(_decode(split, probe.tolist(), 1, keep=True))
    whole = sum(len(block.shapes) - len(block.broken) for block in blocks)
    return sum(block.pixels.size for block in blocks) / max(1, whole)


def _load(split: Split, cache_bytes: int, threads: int) -> tuple[PixelImages | None, dict[int, str] | None]:
    """Return all images decoded and the errors met, by position; neither when they take more than `cache_bytes`."""
    blocks: list[Block] = []
    taken = 0
    for block in _decode(split, list(range(len(split))), threads, keep=True):
        blocks.append(block)
        taken += block.pixels.size
        if taken > cache_bytes:
            return None, None
    broken = {index: problem for block in blocks for index, problem in block.broken.items()}
    shapes = np.concatenate([block.shapes for block in blocks]) if blocks else np.zeros((0, 2), np.int64)
    pixels = [block.pixels for block in blocks]
    images = PixelImages(pixels, shapes, block_length=BLOCK_LENGTH, origin=split.images, broken=broken)
    return images, broken


def _find_broken(split: Split, indices: list[int], threads: int) -> dict[int, str]:
    """Return the errors of the images at `indices`, by position."""
    blocks = _decode(split, indices, threads, keep=False)
    return {index: problem for block in blocks for index, problem in block.broken.items()}


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
    broken: dict[int, str] = {}
    for index in indices:
        try:
            image = split.image(index)
        except UserError as error:
            broken[index] = str(error)
            image = None
        if keep:
            shapes.append((0, 0) if image is None else tuple(image.shape[1:]))
        if keep and image is not None:
            pixels.append(image.numpy().reshape(-1))
    flat = np.concatenate(pixels) if pixels else np.zeros(0, np.uint8)
    return Block(flat, np.array(shapes, dtype=np.int64).reshape(-1, 2), broken)


def bound_problem(num_broken: int, num_images: int, part: str, *, max_errors: float) -> str | None:
    """Return the words for more broken images than `max_errors`, a share of the `part`'s images, allows; else None."""
    if num_broken <= max_errors * num_images:
        return None
    return (
        f"data.max_errors = {max_errors:g}: {num_broken} of the {num_images} {part} images are broken, a share of"
        f" {num_broken / num_images:.2g}. Restore or remove them, or raise data.max_errors."
    )
