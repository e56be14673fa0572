"""Tests of the compute cost of evaluations against counts by hand."""

from typing import Any

import pytest

from common.data.config import DataConfig
from common.evaluation.config import (
    InferenceConfig,
    KnnEvaluationConfig,
    LinearConfig,
    NeighborsConfig,
    ProbeConfig,
    TokensConfig,
)
from common.evaluation.cost import knn_cost, linear_cost, network_complexity, probe_cost, tokens_cost
from common.models.networks import ModelConfig, Network, build_network
from common.training.config import TrainConfig

COMMON = {"out": "runs/x", "init": None, "model": ModelConfig(name="vit_mini"), "data": DataConfig(image_size=12)}


def test_linear_cost_is_the_forward_passes_over_complete_batches() -> None:
    config = LinearConfig(**COMMON, train=TrainConfig(epochs=3, batch_size=20))
    cost = linear_cost(config, num_images=90)
    assert (cost.steps, cost.images) == (12, 240)
    assert cost.macs == 240 * network_complexity(config).macs


def test_knn_and_tokens_cost_one_forward_pass_per_image_up_to_their_limits() -> None:
    config = KnnEvaluationConfig(**COMMON, knn=NeighborsConfig(bank_images=50), train=InferenceConfig())
    assert knn_cost(config, num_images=90, num_held_out=30).images == 80
    assert knn_cost(config, num_images=40, num_held_out=30).images == 70
    assert tokens_cost(TokensConfig(**COMMON, images=25), num_held_out=30).images == 25
    assert tokens_cost(TokensConfig(**COMMON, images=25), num_held_out=20).images == 20


def test_probe_costs_one_forward_pass_per_image_and_pixels_cost_nothing() -> None:
    network, pixels = ProbeConfig(**COMMON), ProbeConfig(**COMMON, features="pixels")
    cost = probe_cost(network, num_images=90, num_held_out=30)
    assert (cost.steps, cost.images, cost.macs) == (0, 120, 120 * network_complexity(network).macs)
    assert probe_cost(pixels, num_images=90, num_held_out=30).macs == 0


def test_a_network_is_built_once_for_all_evaluations_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []

    def build(*args: Any, **options: Any) -> Network:
        built.append(args)
        return build_network(*args, **options)

    monkeypatch.setattr("common.evaluation.cost.build_network", build)
    common = {**COMMON, "data": DataConfig(image_size=20)}
    costs = [probe_cost(ProbeConfig(**common), num_images=number, num_held_out=30) for number in range(90, 95)]
    costs.append(knn_cost(KnnEvaluationConfig(**common), num_images=90, num_held_out=30))
    assert len(built) == 1 and len({cost.macs_per_image for cost in costs}) == 1
    other = {**common, "data": DataConfig(image_size=28)}
    assert probe_cost(ProbeConfig(**other), num_images=90, num_held_out=30).macs_per_image > costs[0].macs_per_image
