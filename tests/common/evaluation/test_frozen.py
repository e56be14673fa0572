"""Tests of the features of a frozen backbone against its blocks run by hand, and of networks without class tokens."""

import pytest
import timm
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.evaluation.frozen import build_frozen, feature_dim, linear_features
from common.models.networks import ModelConfig

MINI = ModelConfig(name="vit_mini")


def by_hand(network: nn.Module, images: Tensor, blocks: int) -> list[Tensor]:
    """Return the tokens (B, 1 + T, D) after each of the last blocks, each through the final norm."""
    tokens = network.patch_embed(images)
    tokens = torch.cat([network.cls_token.expand(len(images), -1, -1), tokens], 1) + network.pos_embed
    found = []
    for block in network.blocks:
        tokens = block(tokens)
        found.append(network.norm(tokens))
    return found[-blocks:]


@pytest.mark.parametrize(("blocks", "average_pool"), [(1, False), (4, False), (1, True), (3, True)])
def test_features_are_the_class_tokens_of_the_last_blocks(blocks: int, average_pool: bool) -> None:
    network = build_frozen(MINI, None, image_size=12, seed=0)
    images = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    features = linear_features(network, blocks=blocks, average_pool=average_pool)
    layers = by_hand(network, images, blocks)
    wanted = [tokens[:, 0] for tokens in layers] + ([layers[-1][:, 1:].mean(1)] if average_pool else [])
    assert torch.allclose(features(images), torch.cat(wanted, 1), atol=1e-5)
    assert feature_dim(features, 12) == 64 * (blocks + average_pool)


def test_a_frozen_backbone_is_in_evaluation_mode_without_gradients() -> None:
    network = build_frozen(ModelConfig(name="vit_mini", drop_path=0.5), None, image_size=12, seed=0)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_an_untrained_network_depends_on_its_seed_only() -> None:
    one, same, other = (build_frozen(MINI, None, image_size=12, seed=seed).pos_embed for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_more_blocks_than_the_network_has_are_rejected() -> None:
    with pytest.raises(UserError, match=r"blocks = 5: model\.name has 4 blocks"):
        linear_features(build_frozen(MINI, None, image_size=12, seed=0), blocks=5, average_pool=False)


def test_a_network_without_class_tokens_has_pooled_features_only() -> None:
    network = timm.create_model("test_efficientnet", num_classes=0).eval()
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(linear_features(network, blocks=1, average_pool=False)(images), network(images))
    with pytest.raises(UserError, match="Set blocks=1 and average_pool=false"):
        linear_features(network, blocks=4, average_pool=False)
    with pytest.raises(UserError, match="average_pool = true"):
        linear_features(network, blocks=1, average_pool=True)
