"""Owns an embedded identity set: scikit-learn's digits as upright images of identities by cameras, drawn in memory.

An identity is a digit in one of 13 runs of consecutive scans. The digits were written by 13 people; the file does not say
by whom each, but it is in the order of scanning, and neighbours are alike: for 40% of the scans the nearest scan of the same
digit lies in the same run, where chance is 8%. So 130 identities of 11 to 17 images, in groups of 13 that
share the digit and differ by the hand alone.
A camera is a rendering: tint, brightness, tilt and place. Every third scan is seen by the same one.
Runs 0 to 8 train, runs 9 to 11 are searched for, and run 12 gives the gallery's distractors.
"""

import numpy as np
import numpy.typing as npt

from common.data.images.collections import PixelImages
from common.data.reid.identities import DISTRACTOR, IdentitySet, Search, Sightings, sightings
from common.data.sources.digits import read_values

SOURCE = "digits_identities"
HEIGHT, WIDTH = 24, 12
NUM_RUNS, TEST_RUN, DISTRACTOR_RUN = 13, 9, 12
_DIGIT_HEIGHT = 16
_BRIGHTEST = 16
# Red, green and blue of the ink and of the ground, degrees, rows from the top.
_CAMERAS = (
    ((255, 255, 255), (0, 0, 0), 0.0, 4),
    ((245, 235, 200), (15, 20, 40), 4.0, 3),
    ((205, 235, 245), (40, 25, 20), -4.0, 5),
)


def read_digit_identities() -> IdentitySet:
    """Return the set: 90 identities to train on, 30 to search for among their other images and 138 distractors."""
    values = read_values()
    position = np.arange(len(values))
    run, camera = position * NUM_RUNS // len(values), position % len(_CAMERAS)
    identity = 1 + run * 10 + values[:, -1].astype(np.int64)
    identity[run == DISTRACTOR_RUN] = DISTRACTOR
    tested = np.flatnonzero((run >= TEST_RUN) & (run < DISTRACTOR_RUN))
    _, first = np.unique(np.stack([identity, camera], 1)[tested], axis=0, return_index=True)
    query = np.sort(tested[first])
    gallery = np.setdiff1d(np.flatnonzero(run >= TEST_RUN), query)

    def part(name: str, chosen: npt.NDArray[np.int64]) -> Sightings:
        """Return these scans, rendered."""
        pixels = [render(values[index, :-1], int(camera[index])) for index in chosen]
        shapes = np.tile(np.array([[HEIGHT, WIDTH]]), (len(chosen), 1))
        images = PixelImages(
            [np.concatenate([image.reshape(-1) for image in pixels])],
            shapes,
            block_length=len(chosen),
            title=f"digit identities, {name} image",
        )
        return sightings(images, identity[chosen], camera[chosen] + 1)

    return IdentitySet(
        title="the embedded digits as identities",
        train=part("training", np.flatnonzero(run < TEST_RUN)),
        test=Search(part("query", query), part("gallery", gallery)),
        shared_numbers=True,
    )


def render(values: npt.NDArray[np.uint8], camera: int) -> npt.NDArray[np.uint8]:
    """Return a scan of 64 brightnesses as camera 0, 1 or 2 sees it, (3, 24, 12) uint8."""
    import cv2

    ink, ground, degrees, top = _CAMERAS[camera]
    scan = cv2.resize(
        values.reshape(8, 8).astype(np.float32) / _BRIGHTEST, (WIDTH, _DIGIT_HEIGHT), interpolation=cv2.INTER_LINEAR
    )
    canvas = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    canvas[top : top + _DIGIT_HEIGHT] = scan
    turn = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, top + (_DIGIT_HEIGHT - 1) / 2), degrees, 1.0)
    canvas = np.asarray(cv2.warpAffine(canvas, turn, (WIDTH, HEIGHT)), dtype=np.float32)
    colours = np.array(ground)[:, None, None] * (1 - canvas) + np.array(ink)[:, None, None] * canvas
    return np.round(colours).clip(0, 255).astype(np.uint8)
