"""Bundled identity set: scikit-learn's digits as portrait images of identities by cameras, rendered in memory.

An identity is a digit in one of 13 runs of consecutive scans. The digits were written by 13 people. The file does not name the
writers, but it is in scanning order, and neighboring scans are similar: for 40% of the scans, the nearest scan of the same digit is
in the same run, compared with 8% by chance. This gives 130 identities of 11 to 17 images; 13 identities share each digit and differ
only in the handwriting.
A camera is a rendering with its own tint, brightness, rotation and position. Each camera takes every third scan.
Runs 0 to 8 are for training, runs 9 to 11 for query and gallery, and run 12 gives the gallery's distractors.
"""

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.images.collections import PixelImages
from common.data.images.decode import ImageDecoder
from common.data.reid.identities import DISTRACTOR, IdentitySet, PersonImages, QueryGallery, person_images
from common.data.sources.digits import read_values, standardize_bundled

SOURCE = "digits_identities"
HEIGHT, WIDTH = 24, 12
NUM_RUNS, TEST_RUN, DISTRACTOR_RUN = 13, 9, 12
_DIGIT_HEIGHT = 16
_MAX_VALUE = 16
# RGB of the ink and of the background, rotation in degrees, rows from the top.
_CAMERAS = (
    ((255, 255, 255), (0, 0, 0), 0.0, 4),
    ((245, 235, 200), (15, 20, 40), 4.0, 3),
    ((205, 235, 245), (40, 25, 20), -4.0, 5),
)


def read_digit_identities(decoder: ImageDecoder) -> IdentitySet:
    """Return the set: 90 training identities; 30 query identities, with their other images and 138 distractors as gallery."""
    values = read_values()
    position = np.arange(len(values))
    run, camera = position * NUM_RUNS // len(values), position % len(_CAMERAS)
    identity = 1 + run * 10 + values[:, -1].astype(np.int64)
    identity[run == DISTRACTOR_RUN] = DISTRACTOR
    test = np.flatnonzero((run >= TEST_RUN) & (run < DISTRACTOR_RUN))
    _, first = np.unique(np.stack([identity, camera], 1)[test], axis=0, return_index=True)
    query = np.sort(test[first])
    gallery = np.setdiff1d(np.flatnonzero(run >= TEST_RUN), query)

    def part(name: str, indices: npt.NDArray[np.int64]) -> PersonImages:
        """Render the scans at `indices`."""
        pixels = [render(values[index, :-1], int(camera[index])) for index in indices]
        shapes = np.tile(np.array([[HEIGHT, WIDTH]]), (len(indices), 1))
        images = PixelImages(
            [standardize_bundled(np.concatenate(pixels), decoder, "digits_identities").reshape(-1)],
            shapes,
            block_length=len(indices),
            decoder=decoder,
            title=f"digit identities, {name} image",
        )
        return person_images(images, identity[indices], camera[indices] + 1)

    return IdentitySet(
        title="the bundled digits as identities",
        train=part("training", np.flatnonzero(run < TEST_RUN)),
        test=QueryGallery(part("query", query), part("gallery", gallery)),
        shared_ids=True,
    )


def render(values: npt.NDArray[np.uint8], camera: int) -> ImageArray:
    """Render a scan of 64 intensities as camera 0, 1 or 2, as a (24, 12, 3) uint8 image."""
    import cv2

    ink, background, degrees, top = _CAMERAS[camera]
    scan = cv2.resize(
        values.reshape(8, 8).astype(np.float32) / _MAX_VALUE, (WIDTH, _DIGIT_HEIGHT), interpolation=cv2.INTER_LINEAR
    )
    canvas = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    canvas[top : top + _DIGIT_HEIGHT] = scan
    rotation = cv2.getRotationMatrix2D(((WIDTH - 1) / 2, top + (_DIGIT_HEIGHT - 1) / 2), degrees, 1.0)
    canvas = np.asarray(cv2.warpAffine(canvas, rotation, (WIDTH, HEIGHT)), dtype=np.float32)
    colors = np.array(background) * (1 - canvas)[..., None] + np.array(ink) * canvas[..., None]
    return np.round(colors).clip(0, 255).astype(np.uint8)
