"""Image folders: class folders, optionally inside split folders, or unlabeled images."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.sources.listing import COMMON_EXTENSIONS, Listing, normalized, printable
from common.data.sources.missing_labels import (
    REMEDY,
    holds_labeled,
    log_unlabeled_folders,
    unlabeled_among,
)
from common.data.sources.split import UNLABELED, Split
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
    `annotations` or `labels` without images (`folder_of_images`) is read instead of both. Folders called unlabeled
    (`is_unlabeled_name`) are set apart: they are neither splits nor classes.
    """

    def __init__(self, root: Path, listing: Listing, *, declared: Sequence[str] = (), kind: str = "auto") -> None:
        self._listing = listing
        self.unlabeled = dict[str, Path]()
        """Folders called unlabeled beside the splits, or beside the folder of the labeled images."""
        self.root = root if kind == "class_folders" else self._descend(root, declared)
        folders = listing.folders(self.root)
        self.paths = {"train": self.root}
        self.others: tuple[str, ...] = ()
        """Folders beside the splits that are in no split."""
        if kind in ("class_folders", "images"):
            return
        unlabeled = unlabeled_among(folders, declared)
        folders = [name for name in folders if name not in unlabeled]
        declared = folders if kind == "split_folders" else declared
        if are_splits(
            folders,
            declared=declared,
            has_folders=lambda name: bool(listing.folders(self.root / name)),
            title=str(self.root),
        ):
            self.paths = {name: _own_folder(self.root / name, listing) for name in folders}
            named = [name for name in folders if name in declared or split_role(name)]
            self.others = tuple(name for name in folders if name not in named)
            self.unlabeled |= {name: self.root / name for name in unlabeled}
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

    def _descend(self, folder: Path, declared: Sequence[str]) -> Path:
        """Return the folder that a folder stands for: its only one, if it has no images of its own and that one has folders.

        A folder beside it that is called unlabeled does not count where the only one is called `labeled`, `data` or the like.
        """
        folders = self._listing.folders(folder)
        unlabeled = unlabeled_among(folders, declared)
        only = [name for name in folders if name not in unlabeled]
        is_split = len(only) == 1 and (only[0] in declared or is_usual_name(only[0]))
        if len(only) == 1 and not is_split and (not unlabeled or holds_labeled(only[0])):
            inner = folder / only[0] if self._listing.folders(folder / only[0]) else None
        else:
            inner = _images_beside_descriptions(folder, only, self._listing)
        if inner is None or any(self._listing.is_image(folder, file) for file in self._listing.entries(folder)[1]):
            return folder
        self.unlabeled |= {name: folder / name for name in unlabeled}
        return self._descend(inner, declared)

    def read_unlabeled(self, name: str, decoder: ImageDecoder) -> Split:
        """Return all images of a folder in `unlabeled`; raise UserError if there are none."""
        folder = self.unlabeled[name]
        paths = self._listing.images(folder)
        self._listing.log_skipped(str(folder))
        if not paths:
            raise UserError(
                f"data.source: {folder} contains no images. Remove it, or leave it out: data.leave_out=[{name}]."
            )
        return Split(images=FileImages(folder, paths, decoder=decoder), labels=None, class_names=())


class FolderSource:
    """A folder of class folders, or of split folders (train, val, test, ...) that contain class folders.

    Class folders may contain subfolders. What is passed over (`Listing`) is logged. Without class folders, images have no labels.
    `declared` are the split names of the configuration: if one of them is a folder, every folder is a split. `kind` is data.kind.
    Images in a folder called unlabeled beside class folders have no label. With `keeps_unlabeled`, neither have those
    outside of class folders.
    """

    def __init__(
        self,
        root: Path,
        *,
        decoder: ImageDecoder,
        declared: Sequence[str] = (),
        kind: str = "auto",
        left_out: Sequence[str] = (),
        keeps_unlabeled: bool = False,
    ) -> None:
        self._kind, self._decoder, self._listing = kind, decoder, Listing(root, left_out, decoder.reads_arrays)
        self._keeps_unlabeled = keeps_unlabeled
        self._splits = SplitFolders(root, self._listing, declared=declared, kind=kind)
        self.root = self._splits.root
        """Folder of the classes or of the splits."""
        self.title = f"the folder {self.root}"
        if self.root != root:
            beside = f" and {quoted(list(self._splits.unlabeled))}" if self._splits.unlabeled else ""
            _log.info("data: %s holds nothing but %s%s, which is read", root, self.root, beside)
        self.others = self._splits.others
        """Folders beside the splits that are in no split."""
        if self.others:
            _log.info("data: in no split of %s: %s", self.title, quoted(self.others))
        self._is_logged = False

    def names(self) -> tuple[str, ...]:
        """Return the names of the split folders, or 'train' if there are none, and of folders called unlabeled beside them."""
        return (*self._splits.paths, *self._splits.unlabeled)

    def unused_names(self) -> list[str]:
        """Return the names to be left out that nothing had in the splits that were read."""
        return self._listing.unused()

    def class_folders(self, name: str) -> dict[str, list[str]]:
        """Return the class folders of split `name` by the class names, sorted; a link to a parent or to another class is none."""
        return self._divide(self._splits.paths[name])[0]

    def _divide(self, folder: Path) -> tuple[dict[str, list[str]], list[str]]:
        """Return the class folders in a folder, and the folders beside them that are called unlabeled."""
        folders, classes = self._listing.folders(folder), dict[str, list[str]]()
        unlabeled = [] if self._kind in ("class_folders", "images") else unlabeled_among(folders)
        for found in folders:
            if found not in unlabeled:
                classes.setdefault(normalized(found), []).append(found)
        return dict(sorted(classes.items())), unlabeled

    def read(self, name: str, *, labeled: bool) -> Split:
        """List the images of split `name`; raise UserError if there are none, or if `labeled` and one has no class.

        Images without a label come last, those in folders called unlabeled and, if they are kept, those outside of class folders.
        """
        if name in self._splits.unlabeled:
            return self._splits.read_unlabeled(name, self._decoder)
        folder = self._splits.paths[name]
        names = self._listing.entries(folder)[1]
        self._listing.skipped.clear()  # what is beside the folders is counted with them
        classes, named = self._divide(folder)
        files = [
            sorted(path for found in folders for path in self._listing.images(folder / found, found))
            for folders in classes.values()
        ]
        outside = [file for file in names if self._listing.is_image(folder, file)]
        apart = [path for found in named for path in self._listing.images(folder / found, found)]
        if named:
            log_unlabeled_folders(named, len(apart), str(folder))
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
        if not outside and not paths and not apart:
            raise _no_images(folder, self.names(), passed_over)
        if self._kind == "images" and labeled:
            raise UserError("data.kind = images: the images of this kind have no labels, which this stage needs.")
        is_partly_labeled = bool(paths) and (not outside or self._keeps_unlabeled) and self._kind != "images"
        if (outside or apart) and not is_partly_labeled:
            self._explain_no_labels(folder, [*outside, *apart], has_labels=bool(paths), labeled=labeled)
        if self._kind == "images" or not is_partly_labeled:
            images = FileImages(folder, [*outside, *paths, *apart], decoder=self._decoder)
            return Split(images=images, labels=None, class_names=())
        unlabeled = [*outside, *apart]
        if self._kind == "auto":
            check_class_folders(folder, self._inner_folders(classes, files))
        if labeled and len(classes) == 1 and (beside := _labels_beside(folder, self._listing.root)):
            raise UserError(f"data.source: {folder} has a single class, {quoted(list(classes))}.{beside}")
        if not labeled and (empty := [name for name, listed in zip(classes, files, strict=True) if not listed]):
            words = (len(empty), len(classes), folder, quoted(empty))
            _log.warning("data: %d of the %d class folders of %s have no images: %s", *words)
        labels = np.repeat(np.arange(len(classes)), [len(listed) for listed in files])
        labels = np.concatenate([labels, np.full(len(unlabeled), UNLABELED)])
        images = FileImages(folder, [*paths, *unlabeled], decoder=self._decoder)
        return Split(images=images, labels=labels, class_names=tuple(classes))

    def _inner_folders(self, classes: Mapping[str, list[str]], files: Sequence[list[str]]) -> dict[str, list[str]]:
        """Return the folders in each class folder as they were listed; none for one that holds images itself."""
        inner = {}
        for (name, folders), listed in zip(classes.items(), files, strict=True):
            found = [each for folder in folders for each in self._listing.inner.get(folder, ())]
            inner[name] = [] if found and any(path.count("/") < 2 for path in listed) else found
        self._listing.inner.clear()
        return inner

    def _explain_no_labels(self, folder: Path, images: Sequence[str], *, has_labels: bool, labeled: bool) -> None:
        """Raise UserError for images without a class if labels are required; otherwise warn if others have one."""
        problem = f"{folder} contains {len(images)} images outside of class folders: {quoted(images, limit=3)}"
        if labeled:
            raise UserError(
                f"data.source: {problem}. Labels are required: move every image into the folder of its class"
                f"{f', or {REMEDY}' if has_labels else ''}.{_labels_beside(folder, self._listing.root)}"
            )
        if has_labels and self._kind != "images":
            _log.warning(
                "data: %s. No labels are read, and the hold-outs differ from those of a run with labels; move them into class"
                " folders, or %s, in the runs of both stages",
                problem,
                REMEDY,
            )


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
