"""Frozen backbones and the features that evaluations take from them.

Shapes: B images, C channels, H and W pixels, T patch tokens, D width of a token.
"""

import logging

import torch
from timm.models import Eva, VisionTransformer
from torch import Tensor, nn

from common.errors import UserError
from common.models.networks import ModelConfig, build_network
from common.models.weights import load_init
from common.sizes import height_and_width

logger = logging.getLogger(__name__)


def build_frozen(
    model: ModelConfig, init: str | None, *, image_size: int | tuple[int, int], seed: int, in_chans: int = 3
) -> nn.Module:
    """Return the network without a classifier, with the weights of `init`, in evaluation mode and without gradients.

    Without `init` it has the initial weights of a training with this seed: the baseline that any training must beat.
    """
    torch.manual_seed(seed)
    network: nn.Module = build_network(model, image_size=image_size, num_classes=0, in_chans=in_chans)
    if init is None:
        logger.info("init: none, evaluating an untrained network")
    else:
        load_init(network, init)
    return network.requires_grad_(False).eval()


class PooledFeatures(nn.Module):
    """Pooled features (B, D): the input of the network's own classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, D) of normalized images (B, C, H, W)."""
        features = self.network.forward_features(images)  # type: ignore[operator]
        return self.network.forward_head(features, pre_logits=True)  # type: ignore[operator, no-any-return]


class BlockFeatures(nn.Module):
    """Concatenated class tokens of a vision transformer's last blocks, each after the final norm: (B, blocks * D).

    They are ordered from the first of these blocks to the last. `average_pool` appends D more: the mean of the last block's patch
    tokens after the final norm (DINO, section 4.1 and appendix: 4 blocks for ViT-S, 1 block and the average for ViT-B).
    """

    def __init__(self, network: VisionTransformer | Eva, *, blocks: int, average_pool: bool) -> None:
        super().__init__()
        self.network, self.blocks, self.average_pool = network, blocks, average_pool

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of normalized images (B, C, H, W)."""
        layers: list[tuple[Tensor, Tensor]] = self.network.forward_intermediates(
            images,
            indices=self.blocks,
            return_prefix_tokens=True,
            norm=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        parts = [prefix_BPD[:, 0] for _, prefix_BPD in layers]
        if self.average_pool:
            patches_BTD, _ = layers[-1]
            parts.append(patches_BTD.mean(1))
        return torch.cat(parts, dim=1)


def linear_features(network: nn.Module, *, blocks: int, average_pool: bool) -> nn.Module:
    """Return the module that computes the features of a linear evaluation from images.

    A network other than a plain vision transformer has no class token after each block, so its features are the pooled ones.
    Raise UserError for more blocks than there are, or for `blocks` or `average_pool` that such a network cannot provide.
    """
    if isinstance(network, VisionTransformer | Eva) and network.cls_token is not None:
        if blocks > len(network.blocks):
            raise UserError(f"blocks = {blocks}: model.name has {len(network.blocks)} blocks. Set at most that many.")
        return BlockFeatures(network, blocks=blocks, average_pool=average_pool)
    if blocks != 1 or average_pool:
        raise UserError(
            f"blocks = {blocks}, average_pool = {str(average_pool).lower()}: model.name is a {type(network).__name__}, which has "
            "no class token after each block. Set blocks=1 and average_pool=false to use its pooled features."
        )
    return PooledFeatures(network)


def feature_dim(features: nn.Module, image_size: int | tuple[int, int], in_chans: int = 3) -> int:
    """Return the dimension of the features, from a forward pass over a black image; `features` may have no parameters."""
    device = next((parameter.device for parameter in features.parameters()), torch.device("cpu"))
    with torch.no_grad():
        return int(features(torch.zeros(1, in_chans, *height_and_width(image_size), device=device)).shape[1])
