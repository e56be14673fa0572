"""Image folders: class folders, optionally inside split folders, or unlabeled images."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.sources.listing import COMMON_EXTENSIONS, Listing, normalized
from common.data.sources.split import Split
from common.data.sources.split_names import are_splits, is_usual_name, split_role
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)


class SplitFolders:
    """The split folders of a source, or its root as the only split `train`.

    A root with nothing but one folder that has folders stands for that folder, and so does a split folder with nothing but a folder
    of its own name or role: data sets are unpacked that way (`data/train`, `seg_train/seg_train`).
    """

    def __init__(self, root: Path, listing: Listing, *, declared: Sequence[str] = (), kind: str = "auto") -> None:
        self.root = root if kind == "class_folders" else _descend(root, listing)
        folders = listing.folders(self.root)
        self.paths = {"train": self.root}
        self.others: tuple[str, ...] = ()
        """Folders beside the splits that are in no split."""
        if kind in ("class_folders", "images"):
            return
        if are_splits(
            folders,
            declared=declared,
            has_folders=lambda name: bool(listing.folders(self.root / name)),
            title=str(self.root),
        ):
            self.paths = {name: _own_folder(self.root / name, listing) for name in folders}
            named = [name for name in folders if name in declared or split_role(name)]
            self.others = tuple(name for name in folders if name not in named)
        listing.skipped.clear()  # every folder is listed again when its split is read


class FolderSource:
    """A folder of class folders, or of split folders (train, val, test, ...) that contain class folders.

    Class folders may contain subfolders. What is passed over (`Listing`) is logged. Without class folders, images have no labels.
    `declared` are the split names of the configuration: if one of them is a folder, every folder is a split. `kind` is data.kind.
    """

    def __init__(
        self,
        root: Path,
        *,
        decoder: ImageDecoder,
        declared: Sequence[str] = (),
        kind: str = "auto",
        left_out: Sequence[str] = (),
    ) -> None:
        self._kind, self._decoder, self._listing = kind, decoder, Listing(root, left_out)
        self._splits = SplitFolders(root, self._listing, declared=declared, kind=kind)
        self.root = self._splits.root
        """Folder of the classes or of the splits."""
        self.title = f"the folder {self.root}"
        if self.root != root:
            _log.info("data: %s holds nothing but %s, which is read", root, self.root)
        if self._splits.others:
            _log.info("data: in no split of %s: %s", self.title, quoted(self._splits.others))

    def names(self) -> tuple[str, ...]:
        """Return the names of the split folders, or 'train' if there are none."""
        return tuple(self._splits.paths)

    def class_folders(self, name: str) -> dict[str, list[str]]:
        """Return the class folders of split `name` by the class names, sorted; a link to a parent or to another class is none."""
        folder, classes = self._splits.paths[name], dict[str, list[str]]()
        for found in self._listing.folders(folder):
            classes.setdefault(normalized(found), []).append(found)
        return dict(sorted(classes.items()))

    def read(self, name: str, *, labeled: bool) -> Split:
        """List the images of split `name`; raise UserError if there are none, or if `labeled` and one has no class."""
        folder = self._splits.paths[name]
        classes = self.class_folders(name)
        files = [
            sorted(path for found in folders for path in self._listing.images(folder / found, found))
            for folders in classes.values()
        ]
        outside = [file for file in self._listing.entries(folder)[1] if self._listing.is_image(folder, file)]
        self._listing.log_skipped(str(folder))
        paths = [path for listed in files for path in listed]
        if not outside and not paths:
            raise UserError(
                f"data.source: {folder} contains no images (extensions {', '.join(COMMON_EXTENSIONS)}, ...). Set it to a folder of"
                " class folders, or to a folder of train, val and test folders that contain class folders."
            )
        if self._kind == "images" and labeled:
            raise UserError("data.kind = images: the images of this kind have no labels, which this stage needs.")
        if outside and labeled:
            raise UserError(
                f"data.source: {folder} contains {len(outside)} images outside of class folders:"
                f" {quoted(outside, limit=3)}. Labels are required: move every image into the folder of its class."
                f"{_labels_beside(folder)}"
            )
        if outside or self._kind == "images":
            images = FileImages(folder, [*outside, *paths], decoder=self._decoder)
            return Split(images=images, labels=None, class_names=())
        labels = np.repeat(np.arange(len(classes)), [len(listed) for listed in files])
        images = FileImages(folder, paths, decoder=self._decoder)
        return Split(images=images, labels=labels, class_names=tuple(classes))


def _descend(folder: Path, listing: Listing) -> Path:
    """Return the folder that a folder stands for: its only folder, if it has no images of its own and that one has folders."""
    folders = listing.folders(folder)
    if len(folders) != 1 or is_usual_name(folders[0]) or not listing.folders(folder / folders[0]):
        return folder
    if any(listing.is_image(folder, file) for file in listing.entries(folder)[1]):
        return folder
    return _descend(folder / folders[0], listing)


def _own_folder(folder: Path, listing: Listing) -> Path:
    """Return a split's folder, or the only folder in it that has the split's own name or role and folders within it."""
    folders = listing.folders(folder)
    if len(folders) != 1 or (folders[0] != folder.name and split_role(folders[0]) != split_role(folder.name)):
        return folder
    return folder / folders[0] if listing.folders(folder / folders[0]) else folder


def _labels_beside(folder: Path) -> str:
    """Return the remedy that names a list of labels beside the images, if there is one."""
    beside = sorted(path.name for parent in (folder, folder.parent) for path in parent.glob("*.csv"))
    return f" If {beside[0]} lists their classes, set data.metadata_file={beside[0]}." if beside else ""
