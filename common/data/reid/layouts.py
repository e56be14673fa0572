"""Published folder layouts of re-identification datasets: Market-1501 and MSMT17.

Market-1501 (Zheng et al. 2015; DukeMTMC-reID has the same layout): `bounding_box_train`, `query` and `bounding_box_test` with file
names such as `0002_c1s1_000451_03.jpg`, which give identity and camera; identity -1 is junk, 0000 a distractor.
MSMT17 (Wei et al. 2018): `list_train.txt`, `list_val.txt`, `list_query.txt` and `list_gallery.txt` with lines such as
`0000/0000_000_01_0303morning_0008_0.jpg 0`: a path and an identity; the third field of the name is the camera. The images are in
`train` and `test` (V1) or `mask_train_v2` and `mask_test_v2` (V2). As is usual in the literature, `list_val.txt` is also used for
training.
"""

import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from common.data.config import Layout
from common.data.images.collections import FileImages
from common.data.images.decode import ImageDecoder
from common.data.reid.identities import DISTRACTOR, JUNK, IdentitySet, PersonImages, QueryGallery, person_images
from common.data.sources.listing import IMAGE_EXTENSIONS
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)

_MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_MARKET_NAME = re.compile(r"(-?\d+)_c(\d+)")
_MSMT_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
_MSMT_FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
_MSMT_NAME = re.compile(r"\d+_\d+_(\d+)_")


class _Photo(NamedTuple):
    """A file's path below the dataset's folder, and the identity and camera from its name."""

    path: str
    identity: int
    camera: int


def find_layout(folder: Path) -> Layout | None:
    """Detect the layout of a folder; return None if it is not a re-identification dataset."""
    if (folder / _MARKET_FOLDERS[0]).is_dir():
        return "market1501"
    return "msmt17" if all((folder / name).is_file() for name in _MSMT_LISTS) else None


def read_layout(layout: Layout, folder: Path, decoder: ImageDecoder) -> IdentitySet:
    """Return the identity set in `folder`; raise UserError with the names of missing or misnamed files."""
    readers: dict[Layout, Callable[[Path, ImageDecoder], IdentitySet]]
    readers = {"market1501": _read_market1501, "msmt17": _read_msmt17}
    return readers[layout](folder, decoder)


def _read_market1501(folder: Path, decoder: ImageDecoder) -> IdentitySet:
    """Read the three folders. Junk images are removed from the gallery and not allowed elsewhere."""
    missing = [name for name in _MARKET_FOLDERS if not (folder / name).is_dir()]
    if missing:
        raise UserError(
            f"data.source: {folder} lacks {quoted(missing)} of the Market-1501 layout, which has {', '.join(_MARKET_FOLDERS)}."
        )
    train, query, gallery = (_market_photos(folder, name) for name in _MARKET_FOLDERS)
    for part, photos in zip(_MARKET_FOLDERS[:2], (train, query), strict=True):
        misplaced = [photo.path for photo in photos if photo.identity in (JUNK, DISTRACTOR)]
        if misplaced:
            raise UserError(
                f"data.source: {folder / part} has {len(misplaced)} images of identity -1 (junk) or 0000 (distractors), which"
                f" belong only in bounding_box_test: {quoted(misplaced, limit=3)}. Move or remove them."
            )
    kept = [photo for photo in gallery if photo.identity != JUNK]
    if len(kept) < len(gallery):
        _log.info("data: %d junk images (identity -1) of %s are excluded", len(gallery) - len(kept), folder)
    return _identity_set("Market-1501 layout", folder, train, query, kept, shared_ids=True, decoder=decoder)


def _market_photos(folder: Path, part: str) -> list[_Photo]:
    """Return the images of one folder, sorted by name."""
    with os.scandir(folder / part) as entries:
        names = sorted(entry.name for entry in entries if entry.name.lower().endswith(IMAGE_EXTENSIONS))
    found = [(name, _MARKET_NAME.match(name)) for name in names if not name.startswith(".")]
    _reject_names(folder / part, [name for name, match in found if match is None], "0002_c1s1_000451_03.jpg")
    return [_Photo(f"{part}/{name}", int(match[1]), int(match[2])) for name, match in found if match is not None]


def _read_msmt17(folder: Path, decoder: ImageDecoder) -> IdentitySet:
    """Read the four lists. Training and test identities are numbered separately, each from 0."""
    missing = [name for name in _MSMT_LISTS if not (folder / name).is_file()]
    folders = {
        part: next((name for name in names if (folder / name).is_dir()), None) for part, names in _MSMT_FOLDERS.items()
    }
    missing += [" or ".join(_MSMT_FOLDERS[part]) for part, name in folders.items() if name is None]
    if missing:
        raise UserError(
            f"data.source: {folder} lacks {quoted(missing)} of the MSMT17 layout, which has {', '.join(_MSMT_LISTS)} and the"
            " folders train and test (V1) or mask_train_v2 and mask_test_v2 (V2)."
        )
    parts = {name: folders["train" if name in _MSMT_LISTS[:2] else "test"] for name in _MSMT_LISTS}
    train, val, query, gallery = (_msmt_photos(folder, name, str(part)) for name, part in parts.items())
    return _identity_set("MSMT17 layout", folder, train + val, query, gallery, shared_ids=False, decoder=decoder)


def _msmt_photos(folder: Path, list_name: str, part: str) -> list[_Photo]:
    """Return the images of a list file, in its order."""
    photos = list[_Photo]()
    try:
        lines = (folder / list_name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.source: {folder / list_name} cannot be read ({error}). Restore the file.") from error
    for number, line in enumerate(lines, 1):
        path, _, identity = line.strip().rpartition(" ")
        match = _MSMT_NAME.match(path.rpartition("/")[2])
        if not line.strip():
            continue
        if match is None or not identity.isdecimal():
            raise UserError(
                f"data.source: line {number} of {folder / list_name} is '{line.strip()[:100]}'; expected a path and an identity,"
                " such as '0000/0000_000_01_0303morning_0008_0.jpg 0', with the camera as the third field of the name."
            )
        photos.append(_Photo(f"{part}/{path}", int(identity), int(match[1])))
    absent = [photo.path for photo in photos if not (folder / photo.path).is_file()]
    if absent:
        raise UserError(
            f"data.source: {len(absent)} of the {len(photos)} images of {folder / list_name} are missing:"
            f" {quoted(absent, limit=3)}. Unpack the dataset again."
        )
    return photos


def _identity_set(
    title: str,
    folder: Path,
    train: list[_Photo],
    query: list[_Photo],
    gallery: list[_Photo],
    *,
    shared_ids: bool,
    decoder: ImageDecoder,
) -> IdentitySet:
    """Return the identity set; raise UserError for a part without images."""
    for part, photos in (("training", train), ("query", query), ("gallery", gallery)):
        if not photos:
            raise UserError(f"data.source: {folder} ({title}) has no {part} images. Unpack the dataset again.")
    return IdentitySet(
        title=f"the folder {folder} ({title})",
        train=_person_images(folder, train, decoder),
        test=QueryGallery(_person_images(folder, query, decoder), _person_images(folder, gallery, decoder)),
        shared_ids=shared_ids,
    )


def _person_images(folder: Path, photos: Sequence[_Photo], decoder: ImageDecoder) -> PersonImages:
    """Return the photos as images with identity and camera."""
    paths, identities, cameras = zip(*photos, strict=True)
    return person_images(FileImages(folder, paths, decoder=decoder), identities, cameras)


def _reject_names(folder: Path, names: Sequence[str], example: str) -> None:
    """Raise UserError for files whose names do not give identity and camera."""
    if names:
        raise UserError(
            f"data.source: {len(names)} images in {folder} have names without identity and camera, such as in {example}:"
            f" {quoted(names, limit=3)}. Rename or remove them."
        )
