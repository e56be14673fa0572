"""Image folders: class folders, optionally inside split folders, or unlabeled images."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.sources.source import TEST_NAMES, TRAIN_NAMES, VALIDATION_NAMES
from common.data.sources.split import Split
from common.errors import UserError, quoted

_COMMON = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_RARE = (".jpe", ".jfif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".tga", ".ico")
IMAGE_EXTENSIONS = (*_COMMON, *_RARE)


class FolderSource:
    """A folder of class folders, or of split folders (train, val, test, ...) that contain class folders.

    Class folders may contain subfolders. Hidden files and folders, and files without an image extension, are skipped.
    Without class folders the images have no labels. `declared` are the split names of the configuration: if one of them
    is a folder, every folder is a split.
    """

    def __init__(self, root: Path, *, decoder: ImageDecoder, declared: Sequence[str] = ()) -> None:
        self.title = f"the folder {root}"
        folders = _folders(root)
        self._decoder = decoder
        self._splits = {"train": root}
        if any(name in folders for name in declared) or _are_split_folders(root, folders):
            self._splits = {name: root / name for name in folders}

    def names(self) -> tuple[str, ...]:
        """Return the names of the split folders, or 'train' if there are none."""
        return tuple(self._splits)

    def read(self, name: str, *, labeled: bool) -> Split:
        """List the images of split `name`; raise UserError if there are none, or if `labeled` and one has no class."""
        folder = self._splits[name]
        classes, files_outside = _list_entries(folder)
        files = [sorted(_find_images(folder / label, label)) for label in classes]
        unlabeled = sorted(file for file in files_outside if _is_image(file))
        if not unlabeled and not any(files):
            raise UserError(
                f"data.source: {folder} contains no images (extensions {', '.join(_COMMON)}, ...). Set it to a folder of"
                " class folders, or to a folder of train, val and test folders that contain class folders."
            )
        if unlabeled and labeled:
            raise UserError(
                f"data.source: {folder} contains {len(unlabeled)} images outside of class folders:"
                f" {quoted(unlabeled, limit=3)}. Labels are required: move every image into the folder of its class."
            )
        paths = [path for paths in files for path in paths]
        if unlabeled:
            images = FileImages(folder, [*unlabeled, *paths], decoder=self._decoder)
            return Split(images=images, labels=None, class_names=())
        labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in files])
        images = FileImages(folder, paths, decoder=self._decoder)
        return Split(images=images, labels=labels, class_names=tuple(classes))


def _are_split_folders(root: Path, folders: list[str]) -> bool:
    """Return whether the folders are splits: all have usual split names, or a training folder has subfolders.

    A folder 'train' of images next to 'bus' and 'tram' is a class.
    """
    roles = [name for name in folders if name.lower() in (*TRAIN_NAMES, *VALIDATION_NAMES, *TEST_NAMES)]
    nested = any(_folders(root / name) for name in roles if name.lower() in TRAIN_NAMES)
    return nested or (len(roles) == len(folders) > 0)


def _folders(folder: Path) -> list[str]:
    """Return the sorted names of the folders in `folder`, without hidden ones."""
    return _list_entries(folder)[0]


def _list_entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the folders in `folder`, and the names of its files, without hidden ones."""
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
    """Return whether a file has an image extension."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def _find_images(folder: Path, prefix: str, ancestors: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the images in `folder` and its subfolders as paths that start with `prefix`.

    `ancestors` are the real paths of the parent folders: symbolic links to them are not followed.
    """
    real_path = os.path.realpath(folder)
    if real_path in ancestors:
        return
    folders, files = _list_entries(folder)
    for file in files:
        if _is_image(file):
            yield f"{prefix}/{file}"
    for name in folders:
        yield from _find_images(folder / name, f"{prefix}/{name}", (*ancestors, real_path))
