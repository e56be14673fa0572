"""What an evaluation costs, against counts by hand."""

from common.data.config import DataConfig
from common.evaluation.config import KnnEvaluationConfig, LinearConfig, NeighboursConfig, PassConfig, TokensConfig
from common.evaluation.cost import knn_cost, linear_cost, network_complexity, tokens_cost
from common.models.networks import ModelConfig
from common.training.config import TrainConfig

COMMON = {"out": "runs/x", "init": None, "model": ModelConfig(name="vit_mini"), "data": DataConfig(image_size=12)}


def test_a_linear_evaluation_runs_forward_over_whole_batches() -> None:
    config = LinearConfig(**COMMON, train=TrainConfig(epochs=3, batch_size=20))
    cost = linear_cost(config, num_images=90)
    assert (cost.steps, cost.images) == (12, 240)
    assert cost.multiply_adds == 240 * network_complexity(config).multiply_adds


def test_passes_look_at_every_image_once_up_to_their_bounds() -> None:
    config = KnnEvaluationConfig(**COMMON, knn=NeighboursConfig(bank_images=50), train=PassConfig())
    assert knn_cost(config, num_images=90, num_held_out=30).images == 80
    assert knn_cost(config, num_images=40, num_held_out=30).images == 70
    assert tokens_cost(TokensConfig(**COMMON, images=25), num_held_out=30).images == 25
    assert tokens_cost(TokensConfig(**COMMON, images=25), num_held_out=20).images == 20
