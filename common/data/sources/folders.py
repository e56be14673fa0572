"""Image folders: class folders, optionally inside split folders, or unlabeled images."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.sources.listing import COMMON_EXTENSIONS, Listing, normalized, printable
from common.data.sources.split import Split
from common.data.sources.split_names import are_splits, is_usual_name, split_role
from common.data.sources.structure import check_class_folders, folder_of_images, images_beside_images
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)

LIST_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".parquet")
"""Extensions of lists of images and labels."""


class SplitFolders:
    """The split folders of a source, or its root as the only split `train`.

    A root with nothing but one folder that has folders stands for that folder, and so does a split folder with nothing but a folder
    of its own name or role: data sets are unpacked that way (`data/train`, `seg_train/seg_train`). A folder `images` beside
    `annotations` or `labels` without images (`folder_of_images`) is read instead of both.
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
        listing.inner.clear()

    def log_unread(self, listing: Listing) -> None:
        """Log what lies beside the split folders, in none of them."""
        if self.paths == {"train": self.root}:
            return
        folders, files = listing.entries(self.root)
        for name in folders:
            listing.is_followed(self.root / name, ())
        if images := sum(listing.is_image(self.root, name) for name in files):
            listing.skipped["images in no split"] += images
        listing.log_skipped(str(self.root))


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
        self.others = self._splits.others
        """Folders beside the splits that are in no split."""
        if self.others:
            _log.info("data: in no split of %s: %s", self.title, quoted(self.others))
        self._is_logged = False

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
        passed_over = self._listing.describe_skipped()
        self._listing.log_skipped(str(folder))
        if not self._is_logged:
            self._splits.log_unread(self._listing)
            self._is_logged = True
        paths = [path for listed in files for path in listed]
        if 2 * len(backslashes := [path for path in outside if "\\" in path]) > len(outside):
            raise UserError(
                f"data.source: {folder} contains {len(backslashes)} files whose names have backslashes, such as '{backslashes[0]}':"
                " folders of Windows in an archive. Extract it again with `unzip` or `7z x`, which make folders of them."
            )
        if not outside and not paths:
            raise _no_images(folder, self.names(), passed_over)
        if self._kind == "images" and labeled:
            raise UserError("data.kind = images: the images of this kind have no labels, which this stage needs.")
        if outside and labeled:
            raise UserError(
                f"data.source: {folder} contains {len(outside)} images outside of class folders:"
                f" {quoted(outside, limit=3)}. Labels are required: move every image into the folder of its class."
                f"{_labels_beside(folder, self._listing.root)}"
            )
        if outside or self._kind == "images":
            images = FileImages(folder, [*outside, *paths], decoder=self._decoder)
            return Split(images=images, labels=None, class_names=())
        if self._kind == "auto":
            check_class_folders(folder, self._inner_folders(classes, files))
        if labeled and len(classes) == 1 and (beside := _labels_beside(folder, self._listing.root)):
            raise UserError(f"data.source: {folder} has a single class, {quoted(list(classes))}.{beside}")
        if not labeled and (empty := [name for name, listed in zip(classes, files, strict=True) if not listed]):
            words = (len(empty), len(classes), folder, quoted(empty))
            _log.warning("data: %d of the %d class folders of %s have no images: %s", *words)
        labels = np.repeat(np.arange(len(classes)), [len(listed) for listed in files])
        images = FileImages(folder, paths, decoder=self._decoder)
        return Split(images=images, labels=labels, class_names=tuple(classes))

    def _inner_folders(self, classes: Mapping[str, list[str]], files: Sequence[list[str]]) -> dict[str, list[str]]:
        """Return the folders in each class folder as they were listed; none for one that holds images itself."""
        inner = {}
        for (name, folders), listed in zip(classes.items(), files, strict=True):
            found = [each for folder in folders for each in self._listing.inner.get(folder, ())]
            inner[name] = [] if found and any(path.count("/") < 2 for path in listed) else found
        self._listing.inner.clear()
        return inner


def _no_images(folder: Path, splits: Sequence[str], passed_over: str) -> UserError:
    """Return the error of a split without images."""
    found = f" Passed over: {passed_over}." if passed_over else ""
    remedy = (
        f"Remove it, or leave it out: data.leave_out=[{printable(folder.name)}]."
        if len(splits) > 1 and split_role(folder.name) != "train"
        else "Set it to a folder of class folders, or to a folder of train, val and test folders that contain class folders."
    )
    return UserError(
        f"data.source: {folder} contains no images (extensions {', '.join(COMMON_EXTENSIONS)}, ...).{found} {remedy}"
    )


def _descend(folder: Path, listing: Listing) -> Path:
    """Return the folder that a folder without images of its own stands for: its only one, or the one of the images."""
    while True:
        folders = listing.folders(folder)
        if len(folders) == 1 and not is_usual_name(folders[0]) and listing.folders(folder / folders[0]):
            inner: Path | None = folder / folders[0]
        else:
            inner = _images_beside_descriptions(folder, folders, listing)
        if inner is None or any(listing.is_image(folder, file) for file in listing.entries(folder)[1]):
            return folder
        folder = inner


def _own_folder(folder: Path, listing: Listing) -> Path:
    """Return a split's folder, or the folder in it that has the split's own name or role and folders, or that of the images."""
    folders = listing.folders(folder)
    if len(folders) != 1 or (folders[0] != folder.name and split_role(folders[0]) != split_role(folder.name)):
        return _images_beside_descriptions(folder, folders, listing) or folder
    return folder / folders[0] if listing.folders(folder / folders[0]) else folder


def _images_beside_descriptions(folder: Path, folders: Sequence[str], listing: Listing) -> Path | None:
    """Return the folder of the images if the others have none and are called as descriptions; raise UserError if they have some."""
    name = folder_of_images(folders)
    if name is None:
        return None
    others = [other for other in folders if other != name]
    if any(listing.has_images(folder / other) for other in others):
        raise images_beside_images(folder, name, others)
    _log.info("data: %s is read, not %s beside it, which have no images", folder / name, quoted(others))
    return folder / name


def _labels_beside(folder: Path, source: Path) -> str:
    """Return the remedy that names a list of labels beside the images, if there is one; first those of the training images."""
    beside = {
        path.relative_to(source).as_posix(): path
        for parent in (folder, folder.parent)
        if parent.is_relative_to(source)
        for extension in LIST_EXTENSIONS
        for path in parent.glob(f"*{extension}")
        if "submission" not in path.name.lower() and split_role(path.stem) not in ("validation", "test")
    }
    if not beside:
        return ""
    name = min(beside, key=lambda name: (split_role(beside[name].stem) != "train", name))
    return (
        f" If {name} lists their classes, set data.metadata_file={name}, and data.image_column to its column of file names if"
        " that is not called file_name."
    )
