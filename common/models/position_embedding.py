"""Position embeddings of weights, resized to the grid of the network that loads them."""

import logging
import math

from timm.layers.pos_embed import resample_abs_pos_embed_nhwc
from timm.models import Eva, VisionTransformer
from timm.models.volo import VOLO
from torch import Tensor, cat, nn

from common.models.patch_geometry import Grid, PatchGeometry

logger = logging.getLogger(__name__)

NAME = "pos_embed"
"""Name of the position embedding in all networks."""


class UnknownGridError(Exception):
    """The grid of a position embedding cannot be determined, or contradicts what its config states."""


def resize_position_embedding(
    model: nn.Module, weights: dict[str, Tensor], geometry: PatchGeometry | None, *, source: str
) -> Grid | None:
    """Resize the position embedding of the weights to the network's grid; return their grid, or None if it is unchanged.

    Bicubic and antialiased, as in timm. VOLO's has the shape (1, rows, columns, D), a vision transformer's (1, prefix + patches,
    D): `geometry` tells the grid. Without it, as many patches as a square are taken for a square, and a number that is no square
    for the network's own grid, both with a warning. An embedding of another shape is left to the check of all tensors.

    Raise UnknownGridError for a geometry that contradicts the number of patches, and for one that nothing tells.
    """
    given, own = weights.get(NAME), getattr(model, NAME, None)
    if not isinstance(own, Tensor) or given is None or given.dim() != own.dim() or given.shape[-1] != own.shape[-1]:
        return None
    if isinstance(model, VOLO) and given.shape[0] == 1:
        grid, new_grid = (given.shape[1], given.shape[2]), own_grid(model)
        patches = given
    elif isinstance(model, VisionTransformer | Eva) and given.shape[0] == 1:
        num_prefix_tokens, new_grid = 0 if model.no_embed_class else model.num_prefix_tokens, own_grid(model)
        num_patches = given.shape[1] - num_prefix_tokens
        if num_patches < 1:
            return None
        grid = _grid(num_patches, new_grid, geometry, model.patch_embed.patch_size, source=source)
        patches = given[:, num_prefix_tokens:].reshape(1, *grid, -1)
    else:
        return None
    if grid == new_grid:
        return None
    # The function for (rows, columns, D): the one for sequences returns 16 patches of 2x8 unchanged as 4x4 before timm 1.0.31.
    resized = resample_abs_pos_embed_nhwc(patches, new_size=list(new_grid))
    weights[NAME] = cat([given[:, :num_prefix_tokens], resized.flatten(1, 2)], dim=1) if given.dim() == 3 else resized
    return grid


def own_grid(model: nn.Module) -> Grid:
    """Return the grid of a network's position embedding."""
    rows, columns = model.pos_embed.shape[1:3] if isinstance(model, VOLO) else model.patch_embed.grid_size  # type: ignore[union-attr, misc]
    return rows, columns


def _grid(num_patches: int, own_grid: Grid, geometry: PatchGeometry | None, patch_size: Grid, *, source: str) -> Grid:
    """Return the grid of so many patches; `own_grid` and `patch_size` are those of the network that loads them."""
    if geometry is not None:
        rows, columns = grid = geometry.grid(patch_size)
        if rows * columns != num_patches:
            (height, width), (patch_height, patch_width) = geometry.image_size, geometry.patch_size or patch_size
            raise UnknownGridError(
                f"{geometry.source} states images of {height}x{width} px in patches of {patch_height}x{patch_width} px, a grid of"
                f" {rows}x{columns}, but the position embedding has {num_patches} patches; restore the file that was written"
                " with these weights, or move the weights to a folder without it"
            )
        return grid
    side = math.isqrt(num_patches)
    if side**2 == num_patches:
        grid, what = (side, side), "a square grid"
    elif num_patches == math.prod(own_grid):
        grid, what = own_grid, "the grid of this network"
    else:
        raise UnknownGridError(
            f"its {num_patches} patches are no square, and nothing states their grid; put the config.json of the export (with"
            " network.img_size and network.patch_size) beside the weights, or set data.image_size to the size that they were"
            " trained on"
        )
    logger.warning(
        "init: warning: nothing states the grid of the position embedding of %s, so %s was assumed, %dx%d. If the images had"
        " another aspect ratio, set init to the run folder or the export, whose config tells the grid",
        source,
        what,
        *grid,
    )
    return grid
