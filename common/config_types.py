"""Types of configuration fields that carry their bounds."""

import math
from typing import Annotated, Any

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from common.config_messages import VALUE, Otherwise

AtLeastOne = Annotated[int, Field(ge=1)]
"""A number of things of which there must be one."""
Seed = Annotated[int, Field(ge=0)]
"""A seed of random numbers."""
Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""
NonNegative = Annotated[float, Field(ge=0), Otherwise("must not be negative.")]
"""A number of at least 0."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number in [0, 1]."""
CropFraction = Annotated[float, Field(gt=0, le=1)]
"""The side of a crop as a fraction of the image's, in (0, 1]."""
Probability = Annotated[float, Field(ge=0, le=1), Otherwise("is not a probability, use values in [0, 1]")]
"""A probability."""


def up_to(limit: float) -> tuple[Any, ...]:
    """Return the annotations of a number in [0, limit]."""
    return Field(ge=0, le=limit), Otherwise(f"is out of range, use a value in [0, {limit:g}]")


def _check_area_range(ends: tuple[float, float]) -> tuple[float, float]:
    """Return a range of area fractions; raise for one that is empty or leaves (0, 1]."""
    if not 0 < ends[0] <= ends[1] <= 1:
        raise PydanticCustomError(VALUE, "is not a range of area fractions, use 0 < lowest <= highest <= 1")
    return ends


def _check_positive_range(ends: tuple[float, float]) -> tuple[float, float]:
    """Return a range of positive numbers; raise for one that is empty."""
    if not 0 < ends[0] <= ends[1] < math.inf:
        raise PydanticCustomError(VALUE, "is not a valid range, use 0 < lowest <= highest")
    return ends


AreaRange = Annotated[tuple[float, float], AfterValidator(_check_area_range)]
"""The lowest and the highest area of a crop, as fractions of the image's area."""
PositiveRange = Annotated[tuple[float, float], AfterValidator(_check_positive_range)]
"""The lowest and the highest of positive numbers."""
