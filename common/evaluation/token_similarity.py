"""Cosine similarity between the patch tokens of an image after each layer of a vision transformer.

Shapes: B images, S pixels, T patch tokens, D width of a token, L layers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from timm.models import Eva, VisionTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize

from common.errors import UserError


def token_similarity(tokens_BTD: Tensor) -> Tensor:
    """Return the mean cosine similarity (B,) over the pairs of distinct tokens of each image.

    CosSim(x) = 1 / (T (T - 1)) * sum over i != j of <x_i, x_j> / (||x_i|| ||x_j||) ("Scaled ReLU Matters", tokens
    diversification, after Gong et al. 2021). With u_i = x_i / ||x_i|| the sum is ||sum_i u_i||^2 - sum_i ||u_i||^2, which
    costs T * D instead of T^2 * D. A token of norm 0 has similarity 0 to all others. T must be at least 2.
    """
    units = normalize(tokens_BTD.float(), dim=2)
    num_tokens = units.shape[1]
    assert num_tokens > 1, "a single token has no pair"
    pairs = units.sum(1).square().sum(1) - units.square().sum((1, 2))
    return pairs / (num_tokens * (num_tokens - 1))


def layer_names(network: nn.Module) -> list[str]:
    """Return the layers in order, as the paper counts them: the stem, the position embedding, each block.

    Raise UserError for a network without these layers.
    """
    if not isinstance(network, VisionTransformer | Eva):
        raise UserError(
            f"model.name: a {type(network).__name__} has no stem, position embedding and blocks on a single token grid. Set it to "
            "a plain vision transformer, such as deit_small."
        )
    return ["stem", "position embedding", *(f"block {number}" for number in range(1, len(network.blocks) + 1))]


class LayerSimilarities(nn.Module):
    """Token similarity of each image after every layer: (B, L).

    The class token is excluded at every layer, since there is none after the stem.
    """

    def __init__(self, network: VisionTransformer | Eva) -> None:
        super().__init__()
        layer_names(network)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the similarities (B, L) for normalized images (B, 3, S, S)."""
        with self._hooked() as similarities:
            self.network.forward_features(images)
        return torch.stack(similarities, dim=1)

    @contextmanager
    def _hooked(self) -> Iterator[list[Tensor]]:
        """Yield a list to which forward hooks append each layer's similarities (B,)."""
        similarities: list[Tensor] = []
        prefix = self.network.num_prefix_tokens

        def after_stem(_: nn.Module, __: Any, output: Tensor) -> None:
            similarities.append(token_similarity(output if output.dim() == 3 else output.flatten(1, 2)))

        def before_first_block(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            similarities.append(token_similarity(inputs[0][:, prefix:]))

        def after_block(_: nn.Module, __: Any, output: Tensor) -> None:
            similarities.append(token_similarity(output[:, prefix:]))

        hooks = [
            self.network.patch_embed.register_forward_hook(after_stem),
            self.network.blocks[0].register_forward_pre_hook(before_first_block),
            *(block.register_forward_hook(after_block) for block in self.network.blocks),
        ]
        try:
            yield similarities
        finally:
            for hook in hooks:
                hook.remove()
