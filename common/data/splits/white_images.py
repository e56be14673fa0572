"""Images that are entirely white: blank ones, and white drawings that disappear when their transparent ground becomes white."""

import logging

import numpy as np

from common.data.images import ImageArray
from common.errors import quoted

_log = logging.getLogger(__name__)


def is_white(image: ImageArray) -> bool:
    """Return whether every pixel of an image is white."""
    white = np.iinfo(image.dtype).max
    return bool((image[0, 0] == white).all() and image.min() == white)


def warn_of_white(names: list[str], num_decoded: int) -> None:
    """Log which of the decoded images are entirely white, and what to do if they were drawings on a transparent ground."""
    if names:
        _log.warning(
            "data: warning: %d of %d decoded images are entirely white, such as %s. Transparent pixels become white,"
            " where white drawings disappear: save those on another background. Leave blank images out with data.leave_out",
            len(names),
            num_decoded,
            quoted(names, limit=3),
        )
