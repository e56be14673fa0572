"""Names of images in lists that do not say where the images are: without extension or folders, or with those of another machine."""

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from common.data.sources.listing import IMAGE_EXTENSIONS, Listing, normalized
from common.data.sources.split_names import split_role

_log = logging.getLogger(__name__)

_NUM_TRIED = 100


def find_listed(names: Sequence[str | None], file: Path, listing: Listing) -> list[str | None]:
    """Return the names in a list `file` as paths relative to its folder.

    They are returned as they are if one of the first exists. Otherwise each stands for the image of the source whose path has most
    last parts in common with it, without regard to extension and case; of several, for the one in the split that the list is called
    after (`train.csv`). A name without such an image, or with several, is returned as it is.
    """
    texts = [None if name is None else str(name).replace("\\", "/").strip() for name in names]
    tried = [text for text in texts if text][:_NUM_TRIED]
    if any(os.path.exists(os.path.normpath(file.parent / text)) for text in tried):
        return texts
    images = defaultdict[str, list[tuple[str, ...]]](list)
    for path in listing.images(listing.root):
        parts = tuple(_plain(path).split("/"))
        images[parts[-1]].append((path, *parts))
    listing.skipped.clear()
    listing.inner.clear()
    role = split_role(file.stem)
    found = [None if text is None else _find(tuple(_plain(text).split("/")), images, role) for text in texts]
    number = sum(path is not None for path in found)
    if not number:
        return texts
    example = next((text, path) for text, path in zip(texts, found, strict=True) if path is not None)
    _log.info("data: %s: %d of %d names are found elsewhere, such as %s: %s", file, number, len(texts), *example)
    up = os.path.relpath(listing.root, file.parent)
    return [text if path is None else os.path.join(up, path) for text, path in zip(texts, found, strict=True)]


def _plain(path: str) -> str:
    """Return a path without the extension of an image, as it is compared."""
    stem, extension = os.path.splitext(path)
    return normalized(stem if extension.lower() in IMAGE_EXTENSIONS else path).casefold()


def _find(parts: tuple[str, ...], images: dict[str, list[tuple[str, ...]]], role: str | None) -> str | None:
    """Return the path of the image with most last parts in common; None if there is none, or several."""

    def agreement(image: tuple[str, ...]) -> tuple[int, bool]:
        common = 0
        for mine, theirs in zip(reversed(parts), reversed(image[1:]), strict=False):
            if mine != theirs:
                break
            common += 1
        return common, role is not None and any(split_role(part) == role for part in image[1:-1])

    candidates = images.get(parts[-1], [])
    if len(candidates) < 2:
        return candidates[0][0] if candidates else None
    ranked = sorted(candidates, key=agreement, reverse=True)
    return ranked[0][0] if agreement(ranked[0]) > agreement(ranked[1]) else None
