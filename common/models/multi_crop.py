"""Vision transformers for multi-crop inputs of several sizes, with the position embedding resampled as in DINO."""

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor

_INTERPOLATE_OFFSET = 0.1
"""Added to the new grid's sides in the scale factor, against rounding errors that give a smaller grid (DINO's issue 8)."""


class MultiCropVisionTransformer(VisionTransformer):  # type: ignore[misc]
    """timm's vision transformer, with DINO's resampled position embedding for crops of another size than the network's own.

    timm resamples it with antialiasing (`dynamic_img_size`), and so does `load_init` for weights of another grid. DINO was
    trained without antialiasing: the standard deviation of its local crops' position embedding is then more than twice as large.
    """

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Return tokens (B, 1 + rows * columns, D), class token first, for patches (B, rows, columns, D)."""
        count, rows, columns, width = x.shape
        position = resample_position(self.pos_embed, (rows, columns), old_grid=self.patch_embed.grid_size)
        tokens = torch.cat([self.cls_token.expand(count, -1, -1), x.reshape(count, -1, width)], dim=1)
        return self.pos_drop(tokens + position)  # type: ignore[no-any-return]


def resample_position(position: Tensor, grid: tuple[int, int], *, old_grid: tuple[int, int]) -> Tensor:
    """Resample a position embedding (1, 1 + patches, D) from `old_grid` (rows, columns) to `grid`; keep the class token's.

    Bicubic (a = -3/4) without antialiasing: row i is sampled at (i + 1/2) * old_rows / (rows + 0.1) - 1/2, columns likewise, and
    edge values are replicated. Same as `interpolate_pos_encoding` in DINO's public code (Caron et al. 2021).
    """
    if grid == tuple(old_grid):
        return position
    (rows, columns), (old_rows, old_columns) = grid, old_grid
    patches = position[:, 1:].reshape(1, old_rows, old_columns, -1).permute(0, 3, 1, 2)
    factors = ((rows + _INTERPOLATE_OFFSET) / old_rows, (columns + _INTERPOLATE_OFFSET) / old_columns)
    if torch.are_deterministic_algorithms_enabled():
        resampled = _resample_by_products(patches, factors)
    else:
        resampled = F.interpolate(patches, scale_factor=factors, mode="bicubic")
    return torch.cat([position[:, :1], resampled.flatten(2).transpose(1, 2)], dim=1)


def _resample_by_products(patches: Tensor, factors: tuple[float, float]) -> Tensor:
    """Return F.interpolate(patches, scale_factor=factors, mode="bicubic") up to rounding, whose gradient varies on GPUs.

    Bicubic resampling is separable: a product with a matrix of weights for the rows and one for the columns.
    """
    rows, columns = (_weights(size, factor, patches) for size, factor in zip(patches.shape[2:], factors, strict=True))
    with torch.autocast(patches.device.type, enabled=False):
        return rows @ patches @ columns.T


def _weights(size: int, factor: float, like: Tensor) -> Tensor:
    """Return the weights (new size, size) with which an axis is resampled: the resampled unit vectors."""
    units = torch.eye(size, dtype=like.dtype, device=like.device)
    return F.interpolate(units[None, None], scale_factor=(factor, 1.0), mode="bicubic")[0, 0]
