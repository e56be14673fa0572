"""The worst mistakes of the declared arms: test images that most of an arm's seeds get wrong, with the highest confidence."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.errors import UserError
from recipes.reports.comparison.arm_predictions import ArmPair, ArmPredictions
from recipes.reports.picture_files import Picture, digest_of, encode, fit, stored_pictures
from recipes.reports.run_images import load_config, open_run_splits, read_recipe

MOST_PER_ARM = 6
SIDE = 96
"""Longer side of a picture in pixels, about."""
MOST_BYTES = 3500
"""Size of a picture: with `MOST_PER_ARM` of two arms and the crops below 100 KB in all, as data URIs."""


@dataclass(frozen=True)
class Mistake:
    """A test image that seeds of an arm get wrong."""

    image: str
    true: str
    predicted: str
    """The wrong class that most of these seeds predict."""
    wrong: int
    seeds: int
    confidence: float | None
    """Mean probability of the wrong predictions, in percent; None where it is not stored."""


def worst_mistakes(arm: ArmPredictions) -> list[Mistake]:
    """Return the images that most seeds get wrong, the most confident ones first, then by name."""
    wrong = ~arm.is_correct
    count = wrong.sum(axis=0)
    confidence = np.zeros(len(count))
    if arm.confidence is not None:
        confidence = np.where(wrong, arm.confidence, 0.0).sum(axis=0) / np.maximum(count, 1)
    places = sorted(
        np.flatnonzero(2 * count > len(arm.seeds)).tolist(),
        key=lambda place: (-count[place], -confidence[place], arm.images[place]),
    )
    return [_mistake(arm, place, int(count[place]), float(confidence[place])) for place in places[:MOST_PER_ARM]]


def _mistake(arm: ArmPredictions, place: int, wrong: int, confidence: float) -> Mistake:
    """Return the mistake at an image."""
    target = int(arm.target[place])
    predicted = Counter(int(each) for each in arm.predicted[:, place] if each != target).most_common(1)[0][0]
    percent = None if arm.confidence is None else 100 * confidence
    names = arm.class_names
    return Mistake(arm.images[place], names[target], names[predicted], wrong, len(arm.seeds), percent)


@dataclass(frozen=True)
class Gallery:
    """Mistakes by arm (a level of the main axis), with the pictures of those images whose data could be opened."""

    x: str
    mistakes: Mapping[str, Sequence[Mistake]]
    pictures: Mapping[str, Picture]
    """By image."""
    reason: str
    """Why there are no pictures; empty if there are."""


def find_gallery(pair: ArmPair, levels: tuple[str, str], folder: Path) -> Gallery | None:
    """Return the worst mistakes of both arms, with their pictures from the study's folder or the run's data; None without any."""
    found = {level: worst_mistakes(arm) for level, arm in zip(levels, (pair.base, pair.other), strict=True)}
    images = list(dict.fromkeys(mistake.image for mistakes in found.values() for mistake in mistakes))
    if not images:
        return None
    digest = digest_of({"images": images, "fingerprint": pair.base.fingerprint, "side": SIDE, "bytes": MOST_BYTES})
    try:
        pictures = stored_pictures(folder, "mistake", digest, lambda: _decode(pair.base, images))
    except UserError as error:
        return Gallery(pair.x, found, {}, str(error).splitlines()[0])
    return Gallery(pair.x, found, pictures, "")


def _decode(arm: ArmPredictions, images: Sequence[str]) -> dict[str, bytes]:
    """Return the encoded pictures of test images by name; raise UserError if the data is gone or has changed."""
    read_recipe(arm.run)
    test = open_run_splits(load_config(arm.run).data, labeled=True).test
    if test is None or test.labels is None:
        raise UserError("data.source has no labeled test images any more")
    places = {name: number for number, name in enumerate(test.image_ids())}
    targets = dict(zip(arm.images, arm.target.tolist(), strict=True))
    classes = {name: arm.class_names[targets[name]] for name in images}
    if any(name not in places or test.class_names[int(test.labels[places[name]])] != classes[name] for name in images):
        raise UserError("the test images of data.source, or their labels, are not those of the runs any more")
    if len(test) == len(arm.images) and test.fingerprint != arm.fingerprint:
        raise UserError("the test images of data.source are not those of the runs any more")
    return {name: encode(fit(test.image(places[name]), SIDE), MOST_BYTES) for name in images}
