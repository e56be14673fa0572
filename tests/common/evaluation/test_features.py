"""How rich features are, also where a network has gone astray."""

import math

import pytest
import torch

from common.evaluation.features import feature_rank


def test_the_rank_is_the_number_of_directions_that_features_spread_over() -> None:
    corners = torch.cat([torch.eye(6), -torch.eye(6)])
    assert feature_rank(corners) == pytest.approx(6.0, rel=1e-4)
    assert feature_rank(torch.arange(5.0)[:, None] * torch.ones(1, 6)) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_have_no_rank(value: float) -> None:
    features = torch.randn(5, 3)
    features[2, 1] = value
    assert math.isnan(feature_rank(features))
