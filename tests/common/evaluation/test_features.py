"""Tests of the effective rank of features."""

import math

import pytest
import torch

from common.evaluation.features import feature_rank


def test_feature_rank_is_the_number_of_directions_that_features_spread_over() -> None:
    corners = torch.cat([torch.eye(6), -torch.eye(6)])
    assert feature_rank(corners) == pytest.approx(6.0, rel=1e-4)
    assert feature_rank(torch.arange(5.0)[:, None] * torch.ones(1, 6)) == pytest.approx(1.0, rel=1e-3)
    assert feature_rank(torch.arange(10.0)[:, None] * torch.ones(1, 4)) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_feature_rank_of_non_finite_features_is_nan(value: float) -> None:
    features = torch.randn(5, 3)
    features[2, 1] = value
    assert math.isnan(feature_rank(features))
