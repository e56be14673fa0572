"""Checks of a run's images before it trains."""

import types
from typing import Any

import pytest

from common.errors import UserError
from common.training.open_images import _check_processes


@pytest.mark.parametrize(
    ("validation", "test", "named"), [(5, 9, "5 validation"), (9, 5, "5 test"), (None, 5, "5 test")]
)
def test_fewer_images_than_processes_are_refused_before_training(
    validation: int | None, test: int | None, named: str
) -> None:
    """A run of 8 processes trained to its end, and could then not be tested on 5 images."""
    parts: Any = types.SimpleNamespace(
        validation=None if validation is None else range(validation), test=range(test or 0)
    )
    _check_processes(parts, 5)
    with pytest.raises(UserError, match=rf"{named} images are too few for 8 processes"):
        _check_processes(parts, 8)
