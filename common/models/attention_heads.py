"""Number of attention heads of a vision transformer's weights that state none: that of the published networks of their width.

No tensor tells it. Heads have 64 channels up to ViT-L, and 80, 88 and 104 in ViT-H, ViT-g and ViT-G, except DINOv2's and DINOv3's.
"""

from collections.abc import Mapping

from torch import Tensor

_PUBLISHED = {64: 1, 192: 3, 256: 4, 320: 5, 384: 6, 512: 8, 640: 10, 768: 12, 832: 13, 896: 14, 1024: 16}
_PUBLISHED |= {1152: 16, 1280: 16, 1408: 16, 1536: 16, 1664: 16}
"""Heads by width: ViT, DeiT, DINO, MAE, CLIP, SigLIP. 64, the width of one such head, is of no published network: a single
head is assumed, and logged."""
_LAYER_SCALE = _PUBLISHED | {1536: 24}
"""DINOv2, DeiT III."""
_DINOV3 = _LAYER_SCALE | {1280: 20, 4096: 32}
_MOCO_V3 = {384: 12}
"""MoCo v3's ViT-S, "An Empirical Study of Training Self-Supervised Vision Transformers" (2021), section 5."""


def published_heads(weights: Mapping[str, Tensor], width: int) -> int | None:
    """Return the number of heads of the published networks of this width and kind, or None if there is none.

    `weights` are in timm's names.
    """
    if "blocks.0.gamma_1" in weights:
        return _DINOV3.get(width)
    return (_LAYER_SCALE if "blocks.0.ls1.gamma" in weights else _PUBLISHED).get(width)


def heads_of_moco_v3(weights: Mapping[str, Tensor]) -> int | None:
    """Return the number of heads of MoCo v3's ViT-S, told by its fixed position embedding, or None for any other weights."""
    position = weights.get("pos_embed")
    if position is None or position.dim() != 3 or position.shape[-1] not in _MOCO_V3:
        return None
    return _MOCO_V3[position.shape[-1]] if _is_position_of_moco(position[0].float()) else None


def _is_position_of_moco(position: Tensor) -> bool:
    """Return whether a position embedding (1 + patches, D) is MoCo v3's: 0 for the class token, sines and cosines for patches.

    The first half of the channels are of the coordinate that is the same for the first two patches; in MAE's they are of the other.
    """
    if len(position) < 3 or position[0].any():
        return False
    first, second, third, fourth = position[1:].chunk(4, dim=1)
    squares = (first**2 + second**2, third**2 + fourth**2)
    half = position.shape[1] // 2
    return all(bool((each - 1).abs().max() < 0.01) for each in squares) and position[1, :half].equal(position[2, :half])
