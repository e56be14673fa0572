"""Mean, standard deviation and range of each channel of the training images, for their normalization."""

import logging
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from common.data.images import ImageArray
from common.data.sources.split import Split
from common.errors import ProcessError, UserError
from common.rng import generator

_log = logging.getLogger(__name__)

MAX_IMAGES = 2000
"""Number of images that are measured; of more, a sample that depends on their number alone."""
_TAIL = 0.1
"""Percentage of an image's values below the lowest and above the highest that are reported."""
_MIN_DEVIATION = 1e-7
_DIGITS = 6


class ChannelStatistics(NamedTuple):
    """Statistics of C channels, for values in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    num_images: int
    low: float
    """Mean of the images' percentiles of 0.1, of all channels together."""
    high: float
    """The same of 99.9."""


def measure_channels(split: Split) -> ChannelStatistics:
    """Measure the channels of a split: every image counts alike, whatever its size; corrupt ones do not.

    std is the square root of the mean over images of x^2 - mean^2. A channel with the same value in all images has a standard
    deviation of 1. Raise UserError if no image can be read.
    """
    order = generator(0, stream="normalization").permutation(len(split))
    moments, tails = list[npt.NDArray[Any]](), list[npt.NDArray[Any]]()
    for index in np.sort(order[:MAX_IMAGES]).tolist():
        try:
            values = _unit_values(split.image(index))
        except ProcessError:
            raise
        except UserError:  # reported by verification or in training
            continue
        moments.append(np.stack([values.mean(axis=0), np.square(values).mean(axis=0)]))
        tails.append(np.percentile(values, [_TAIL, 100 - _TAIL]))
    if not moments:
        raise UserError("data.mean = measured: none of the training images can be read. Restore them.")
    mean, square = np.mean(moments, axis=0)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    flat = deviation < _MIN_DEVIATION
    if flat.any():
        _log.warning(
            "data: warning: the channels %s (from 0) have the same value in all images", np.flatnonzero(flat).tolist()
        )
    low, high = _rounded(np.mean(tails, axis=0))
    return ChannelStatistics(_rounded(mean), _rounded(np.where(flat, 1, deviation)), len(moments), low, high)


def _unit_values(image: ImageArray) -> npt.NDArray[np.float64]:
    """Return the pixels (P, C) of an image in [0, 1]."""
    return image.reshape(-1, image.shape[2]) / float(np.iinfo(image.dtype).max)


def _rounded(values: npt.NDArray[Any]) -> tuple[float, ...]:
    """Return numbers with six significant digits, as a person can copy them."""
    return tuple(float(f"{value:.{_DIGITS}g}") for value in values.tolist())
