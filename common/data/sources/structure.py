"""Evidence that folders are not classes: images beside their annotations, class folders one level deeper, splits within classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.data.sources.split_names import is_usual_name, split_role
from common.errors import UserError, quoted

_IMAGES = frozenset(("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "data"))
_DESCRIPTIONS = frozenset(
    (
        *(
            "annotation",
            "annotations",
            "attributes",
            "bboxes",
            "boxes",
            "bounding_boxes",
            "code",
            "docs",
            "ground_truth",
        ),
        *(
            "groundtruth",
            "gt",
            "imagesets",
            "json",
            "label",
            "labels",
            "list",
            "lists",
            "mask",
            "masks",
            "meta",
            "metadata",
        ),
        *("parts", "scripts", "segmentation", "segmentationclass", "segmentationobject", "segmentations", "splits"),
        *("trimaps", "txt", "xml"),
    )
)
_WRONG_LEVEL = "or data.kind=class_folders if they are classes."


def folder_of_images(folders: Sequence[str]) -> str | None:
    """Return the folder that holds the images if all others are called as what describes them: `images` beside `annotations`."""
    images = [name for name in folders if name.lower() in _IMAGES]
    others = [name for name in folders if name.lower() in _DESCRIPTIONS]
    return images[0] if len(images) == 1 and len(others) == len(folders) - 1 > 0 else None


def images_beside_images(folder: Path, name: str, others: Sequence[str]) -> UserError:
    """Return the error of a folder of images beside others, such as masks, that hold images, too."""
    return UserError(
        f"data.source: of the folders of {folder}, '{name}' seems to hold the images and {quoted(others)} what belongs to them, but"
        f" there are images in all. Set data.source to {folder / name}, data.leave_out=[{', '.join(others)}], {_WRONG_LEVEL}"
    )


def check_class_folders(folder: Path, inner: Mapping[str, Sequence[str]]) -> None:
    """Raise UserError if the folders within class folders tell that these are not the classes.

    `inner` has the names of the folders in each class folder, none for one that holds images itself. They tell it if they are
    splits, if those of one class are called as the other classes, or if all classes have the same ones.
    """
    for name, found in inner.items():
        if {"train"} < {split_role(each) for each in found if is_usual_name(each)}:
            raise UserError(
                f"data.source: the folder {folder / name} contains the splits {quoted(found)}, which are read as one class. Set"
                f" data.source to it if it is a data set of its own, move the splits above the classes ('train/{name}'), or set"
                " data.kind=class_folders to read the images of all splits as the class."
            )
        if len(shared := sorted(set(found) & (inner.keys() - {name}))) > 1:
            raise UserError(
                f"data.source: the folder {folder / name} is read as a class, but contains the folders {quoted(shared)}, as"
                f" {folder} does. Set data.source to {folder / name}, remove it, {_WRONG_LEVEL}"
            )
    common = set.intersection(*map(set, inner.values())) if len(inner) > 1 else set()
    if len(common) > 1 and 2 * len(common) >= len(set[str]().union(*inner.values())):
        raise UserError(
            f"data.source: the folders {quoted(list(inner), limit=4)} of {folder} all contain the folders"
            f" {quoted(sorted(common), limit=4)}, which may be the classes. Set data.source to one of them, such as"
            f" {folder / next(iter(inner))}, set data.train_split (and data.validation_split, data.test_split) to them if they are"
            f" splits, {_WRONG_LEVEL}"
        )
