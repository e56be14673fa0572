"""Owns image folders: class folders, with or without split folders above them, or images without classes."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from common.data.images.collections import FileImages
from common.data.sources.source import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES
from common.data.sources.split import Split
from common.errors import UserError, some

_COMMON = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_RARE = (".jpe", ".jfif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga", ".ico")
IMAGE_EXTENSIONS = (*_COMMON, *_RARE)


class FolderSource:
    """A folder of class folders, or of split folders (train, val, test, ...) that hold class folders.

    Class folders may hold folders themselves. Names that begin with a dot and files that are not named as images are
    passed over. Without class folders the images have no labels. `declared` are the splits a user names; they make
    every folder a split.
    """

    def __init__(self, root: Path, *, declared: Sequence[str] = ()) -> None:
        self.title = f"the folder {root}"
        folders = _folders(root)
        self._splits = {"train": root}
        if any(name in folders for name in declared) or _are_splits(root, folders):
            self._splits = {name: root / name for name in folders}

    def names(self) -> tuple[str, ...]:
        """Return the names of the split folders; 'train' where there is none."""
        return tuple(self._splits)

    def read(self, name: str, *, labelled: bool) -> Split:
        """List the images of split `name`; raise UserError where there is none, or one without a class is labelled."""
        folder = self._splits[name]
        classes, beside = _entries(folder)
        files = [sorted(_images_below(folder / label, label)) for label in classes]
        loose = sorted(file for file in beside if _is_image(file))
        if not loose and not any(files):
            raise UserError(
                f"data.source: {folder} holds no images (files named {', '.join(_COMMON)}, ...). Name a folder"
                " of class folders, or one with train, val and test folders above them."
            )
        if loose and labelled:
            raise UserError(
                f"data.source: {folder} holds {len(loose)} images outside of class folders: {some(loose, limit=3)}."
                " Labels are needed: put every image into the folder of its class."
            )
        paths = [path for paths in files for path in paths]
        if loose:
            return Split(images=FileImages(folder, [*loose, *paths]), labels=None, class_names=())
        labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in files])
        return Split(images=FileImages(folder, paths), labels=labels, class_names=tuple(classes))


def _are_splits(root: Path, folders: list[str]) -> bool:
    """Say whether the folders are splits: all named as such, or a train folder that has folders itself.

    A folder 'train' of images beside 'bus' and 'tram' is a class.
    """
    roles = [name for name in folders if name.lower() in (*TRAIN_NAMES, *VALIDATION_NAMES, *TEST_NAMES)]
    nested = any(_folders(root / name) for name in roles if name.lower() in TRAIN_NAMES)
    return nested or (len(roles) == len(folders) > 0)


def _folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in `folder`, hidden ones left out."""
    return _entries(folder)[0]


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders in `folder`, and the names of its files; hidden ones are left out."""
    folders, files = list[str](), list[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():
                    files.append(entry.name)
    return sorted(folders), files


def _is_image(name: str) -> bool:
    """Say whether a file is named as an image."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def _images_below(folder: Path, prefix: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the images in `folder` and all folders below, as paths that begin with `prefix`.

    `above` are the folders on the way down, so that a link to one of them ends there.
    """
    place = os.path.realpath(folder)
    if place in above:
        return
    folders, files = _entries(folder)
    for file in files:
        if _is_image(file):
            yield f"{prefix}/{file}"
    for name in folders:
        yield from _images_below(folder / name, f"{prefix}/{name}", (*above, place))
