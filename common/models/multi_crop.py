"""Vision transformers that take crops of several sizes, with the position embedding resampled as DINO's program does."""

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor

_NUDGE = 0.1
"""Added to the new grid's sides in the scale factor, so that no product falls just below a whole number (DINO's issue 8)."""


class MultiCropVisionTransformer(VisionTransformer):  # type: ignore[misc]
    """timm's vision transformer but for the position embedding of crops of another size than the network's own.

    timm resamples it with antialiasing (`dynamic_img_size`), and so do we where weights for another grid are loaded once
    (`load_init`). DINO was trained without: its local crops then have a position embedding of a deviation more than twice as large.
    """

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Return the tokens (B, 1 + rows * columns, D), class token first, of patches (B, rows, columns, D)."""
        count, rows, columns, width = x.shape
        position = resample_position(self.pos_embed, (rows, columns), old_grid=self.patch_embed.grid_size)
        tokens = torch.cat([self.cls_token.expand(count, -1, -1), x.reshape(count, -1, width)], dim=1)
        return self.pos_drop(tokens + position)  # type: ignore[no-any-return]


def resample_position(position: Tensor, grid: tuple[int, int], *, old_grid: tuple[int, int]) -> Tensor:
    """Return a position embedding (1, 1 + patches, D) of `old_grid` (rows, columns) for `grid`; the class token's stays.

    Bicubic (a = -3/4) without antialiasing: row i is read at (i + 1/2) * old_rows / (rows + 0.1) - 1/2, columns likewise, and what
    lies beyond the edge is the edge's. As `interpolate_pos_encoding` of DINO's public program (Caron et al. 2021).
    """
    if grid == tuple(old_grid):
        return position
    (rows, columns), (old_rows, old_columns) = grid, old_grid
    patches = position[:, 1:].reshape(1, old_rows, old_columns, -1).permute(0, 3, 1, 2)
    factors = ((rows + _NUDGE) / old_rows, (columns + _NUDGE) / old_columns)
    resampled = F.interpolate(patches, scale_factor=factors, mode="bicubic")
    return torch.cat([position[:, :1], resampled.flatten(2).transpose(1, 2)], dim=1)
