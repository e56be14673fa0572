"""Owns the folders that data for re-identification is published in: Market-1501's and MSMT17's.

Market-1501 (Zheng et al. 2015; DukeMTMC-reID is laid out alike): `bounding_box_train`, `query` and `bounding_box_test` with
names such as `0002_c1s1_000451_03.jpg`: identity and camera; identity -1 is junk, 0000 a distractor.
MSMT17 (Wei et al. 2018): `list_train.txt`, `list_val.txt`, `list_query.txt` and `list_gallery.txt` with lines such as
`0000/0000_000_01_0303morning_0008_0.jpg 0`: a path and an identity, the third field of the name is the camera. The images
lie in `train` and `test` (V1) or `mask_train_v2` and `mask_test_v2` (V2). As in the literature, `list_val.txt` trains too.
"""

import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from common.data.config import Layout
from common.data.images.collections import FileImages
from common.data.reid.identities import DISTRACTOR, JUNK, IdentitySet, Search, Sightings, sightings
from common.data.sources.folders import IMAGE_EXTENSIONS
from common.errors import UserError, some

_log = logging.getLogger(__name__)

_MARKET_FOLDERS = ("bounding_box_train", "query", "bounding_box_test")
_MARKET_NAME = re.compile(r"(-?\d+)_c(\d+)")
_MSMT_LISTS = ("list_train.txt", "list_val.txt", "list_query.txt", "list_gallery.txt")
_MSMT_FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}
_MSMT_NAME = re.compile(r"\d+_\d+_(\d+)_")


class _Photo(NamedTuple):
    """Hold a file's path below the data set's folder, and who and which camera its name gives."""

    path: str
    identity: int
    camera: int


def find_layout(folder: Path) -> Layout | None:
    """Return the layout that the folder seems to have, none where it is no identity set."""
    if (folder / _MARKET_FOLDERS[0]).is_dir():
        return "market1501"
    return "msmt17" if (folder / _MSMT_LISTS[0]).is_file() else None


def read_layout(layout: Layout, folder: Path) -> IdentitySet:
    """Return the identity set in `folder`; raise UserError that names what is missing or misnamed."""
    readers: dict[Layout, Callable[[Path], IdentitySet]] = {"market1501": _read_market1501, "msmt17": _read_msmt17}
    return readers[layout](folder)


def _read_market1501(folder: Path) -> IdentitySet:
    """Read the three folders; junk is left out of the gallery, and stands nowhere else."""
    missing = [name for name in _MARKET_FOLDERS if not (folder / name).is_dir()]
    if missing:
        raise UserError(
            f"data.source: {folder} lacks {some(missing)} of the layout of Market-1501, which has {', '.join(_MARKET_FOLDERS)}."
        )
    train, query, gallery = (_market_photos(folder, name) for name in _MARKET_FOLDERS)
    for part, photos in zip(_MARKET_FOLDERS[:2], (train, query), strict=True):
        strange = [photo.path for photo in photos if photo.identity in (JUNK, DISTRACTOR)]
        if strange:
            raise UserError(
                f"data.source: {folder / part} holds {len(strange)} images of identity -1 (junk) or 0000 (distractors), which"
                f" belong into bounding_box_test alone: {some(strange, limit=3)}. Move or remove them."
            )
    kept = [photo for photo in gallery if photo.identity != JUNK]
    if len(kept) < len(gallery):
        _log.info("data: %d junk images (identity -1) of %s are left out", len(gallery) - len(kept), folder)
    return _identity_set("Market-1501's layout", folder, train, query, kept, shared_numbers=True)


def _market_photos(folder: Path, part: str) -> list[_Photo]:
    """Return the images of one folder, by name."""
    with os.scandir(folder / part) as entries:
        names = sorted(entry.name for entry in entries if entry.name.lower().endswith(IMAGE_EXTENSIONS))
    found = [(name, _MARKET_NAME.match(name)) for name in names if not name.startswith(".")]
    _refuse_names(folder / part, [name for name, match in found if match is None], "0002_c1s1_000451_03.jpg")
    return [_Photo(f"{part}/{name}", int(match[1]), int(match[2])) for name, match in found if match is not None]


def _read_msmt17(folder: Path) -> IdentitySet:
    """Read the four lists; the identities of training and test are counted apart, each from 0."""
    missing = [name for name in _MSMT_LISTS if not (folder / name).is_file()]
    places = {
        part: next((name for name in names if (folder / name).is_dir()), None) for part, names in _MSMT_FOLDERS.items()
    }
    missing += [" or ".join(_MSMT_FOLDERS[part]) for part, name in places.items() if name is None]
    if missing:
        raise UserError(
            f"data.source: {folder} lacks {some(missing)} of the layout of MSMT17, which has {', '.join(_MSMT_LISTS)} and the"
            " folders train and test (V1) or mask_train_v2 and mask_test_v2 (V2)."
        )
    parts = {name: places["train" if name in _MSMT_LISTS[:2] else "test"] for name in _MSMT_LISTS}
    train, val, query, gallery = (_msmt_photos(folder, name, str(part)) for name, part in parts.items())
    return _identity_set("MSMT17's layout", folder, train + val, query, gallery, shared_numbers=False)


def _msmt_photos(folder: Path, list_name: str, part: str) -> list[_Photo]:
    """Return the images that a list names, in its order."""
    photos = list[_Photo]()
    try:
        lines = (folder / list_name).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.source: {folder / list_name} cannot be read ({error}). Copy it again.") from error
    for number, line in enumerate(lines, 1):
        path, _, identity = line.strip().rpartition(" ")
        match = _MSMT_NAME.match(path.rpartition("/")[2])
        if not line.strip():
            continue
        if match is None or not identity.isdecimal():
            raise UserError(
                f"data.source: line {number} of {folder / list_name} is '{line.strip()[:100]}'; it should be a path and"
                " an identity, such as '0000/0000_000_01_0303morning_0008_0.jpg 0', the third field of the name the camera."
            )
        photos.append(_Photo(f"{part}/{path}", int(identity), int(match[1])))
    absent = [photo.path for photo in photos if not (folder / photo.path).is_file()]
    if absent:
        raise UserError(
            f"data.source: {len(absent)} of the {len(photos)} images of {folder / list_name} are not there:"
            f" {some(absent, limit=3)}. Unpack the data set again."
        )
    return photos


def _identity_set(
    title: str, folder: Path, train: list[_Photo], query: list[_Photo], gallery: list[_Photo], *, shared_numbers: bool
) -> IdentitySet:
    """Return the set; raise UserError for a part without images."""
    for part, photos in (("training", train), ("query", query), ("gallery", gallery)):
        if not photos:
            raise UserError(f"data.source: {folder} ({title}) holds no {part} images. Unpack the data set again.")
    return IdentitySet(
        title=f"the folder {folder} ({title})",
        train=_sightings(folder, train),
        test=Search(_sightings(folder, query), _sightings(folder, gallery)),
        shared_numbers=shared_numbers,
    )


def _sightings(folder: Path, photos: Sequence[_Photo]) -> Sightings:
    """Return photos as images with who and what camera they show."""
    paths, identities, cameras = zip(*photos, strict=True)
    return sightings(FileImages(folder, paths), identities, cameras)


def _refuse_names(folder: Path, names: Sequence[str], example: str) -> None:
    """Raise UserError for files whose names give no identity and camera."""
    if names:
        raise UserError(
            f"data.source: {len(names)} images in {folder} have names that give no identity and camera, as {example} does:"
            f" {some(names, limit=3)}. Rename or remove them."
        )
