"""Tests of the compute cost of evaluations against counts by hand."""

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
from common.models.networks import ModelConfig
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
