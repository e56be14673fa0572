"""Tests of token similarity against a double loop over pairs, and of its layers against the network run by hand."""

import pytest
import timm
import torch
from torch import Tensor

from common.errors import UserError
from common.evaluation.frozen import build_frozen
from common.evaluation.token_similarity import LayerSimilarities, layer_names, token_similarity
from common.models.networks import ModelConfig


def double_loop(tokens_TD: Tensor) -> float:
    """Return 1 / (T (T - 1)) * sum over i != j of the cosine of tokens i and j."""
    num_tokens, total = len(tokens_TD), 0.0
    for i in range(num_tokens):
        for j in range(num_tokens):
            if i != j:
                total += float(tokens_TD[i] @ tokens_TD[j] / (tokens_TD[i].norm() * tokens_TD[j].norm()))
    return total / (num_tokens * (num_tokens - 1))


def test_similarity_matches_a_double_loop() -> None:
    tokens = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0)) + 0.5
    assert token_similarity(tokens).tolist() == pytest.approx([double_loop(image) for image in tokens], abs=1e-6)


def test_similarity_is_1_for_parallel_tokens_of_any_norm_and_minus_1_for_opposite_ones() -> None:
    direction = torch.tensor([3.0, 4.0])
    parallel, opposite = torch.stack([direction, 2 * direction, 5 * direction]), torch.stack([direction, -direction])
    assert float(token_similarity(parallel[None])) == pytest.approx(1, abs=1e-6)
    assert float(token_similarity(opposite[None])) == pytest.approx(-1, abs=1e-6)


def test_a_token_of_norm_0_has_similarity_0() -> None:
    tokens = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])
    assert float(token_similarity(tokens)) == pytest.approx(2 / 6)


@pytest.mark.parametrize("stem", ["patchify", "conv"])
def test_layers_are_the_stem_the_position_embedding_and_each_block(stem: str) -> None:
    network = build_frozen(ModelConfig(name="vit_mini", stem=stem), None, image_size=12, seed=0)
    images = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    tokens = network.patch_embed(images)
    wanted = [tokens]
    tokens = torch.cat([network.cls_token.expand(2, -1, -1), tokens], 1) + network.pos_embed
    wanted.append(tokens[:, 1:])
    for block in network.blocks:
        tokens = block(tokens)
        wanted.append(tokens[:, 1:])
    similarities = LayerSimilarities(network)(images)
    expected = torch.tensor([[double_loop(layer[image]) for layer in wanted] for image in range(2)])
    assert similarities.shape == (2, 6) and torch.allclose(similarities, expected, atol=1e-5)
    assert not network.patch_embed._forward_hooks and not network.blocks[0]._forward_pre_hooks


def test_twelve_blocks_make_the_papers_fourteen_layers() -> None:
    names = layer_names(build_frozen(ModelConfig(name="vit_tiny"), None, image_size=32, seed=0))
    assert len(names) == 14 and names[:3] == ["stem", "position embedding", "block 1"] and names[-1] == "block 12"


def test_a_network_without_these_layers_is_rejected() -> None:
    with pytest.raises(UserError, match=r"model\.name: a EfficientNet has no stem"):
        layer_names(timm.create_model("test_efficientnet"))
