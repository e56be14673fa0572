"""Tests of the effective rank of features."""

import math

import pytest
import torch

from common.evaluation.features import feature_rank, singular_values_by_products


def test_feature_rank_is_the_number_of_directions_that_features_spread_over() -> None:
    corners = torch.cat([torch.eye(6), -torch.eye(6)])
    assert feature_rank(corners) == pytest.approx(6.0, rel=1e-4)
    assert feature_rank(torch.arange(5.0)[:, None] * torch.ones(1, 6)) == pytest.approx(1.0, rel=1e-3)
    assert feature_rank(torch.arange(10.0)[:, None] * torch.ones(1, 4)) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("shape", [(200, 16), (8, 16)])
def test_singular_values_on_a_gpu_are_those_of_the_decomposition(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -3, shape[1])
    values = singular_values_by_products(matrix).sort(descending=True).values[: min(shape)]
    torch.testing.assert_close(values, torch.linalg.svdvals(matrix), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_feature_rank_of_non_finite_features_is_nan(value: float) -> None:
    features = torch.randn(5, 3)
    features[2, 1] = value
    assert math.isnan(feature_rank(features))
