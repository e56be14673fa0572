"""Owns the way from dense labels of an image to targets of a view's tokens: crop, flip and turn the grid as the view was.

Shapes: B samples, h x w places of the labels, k classes kept, C classes, N tokens of a view.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.token_labels.files import DenseLabels

_IMAGES_AT_ONCE = 16
"""Images whose (C, h, w) maps are unfolded together, so that 1,000 classes stay below 100 MB."""


def dense_targets(dense: DenseLabels, grid: tuple[int, int], num_classes: int) -> Tensor:
    """Return (B, N, C) float32 targets of the tokens of a grid (rows, columns) of the views, row by row.

    A token's target is the mean of the labels' bilinear interpolation at s x s points of the token, s the number of
    the labels' places in a token of an uncropped view (rounded up). The paper's code does so by RoIAlign (Jiang et al. 2021),
    which knows crops alone and takes fewer points in small ones. There the stored scores are logits, interpolated before
    a softmax that takes the classes left out for 0; here they are probabilities, and what the k classes leave is spread
    evenly over the others. Where a view reaches over the image's edge, the edge's labels go on.
    """
    parts = zip(*(torch.split(part, _IMAGES_AT_ONCE) for part in dense), strict=True)
    return torch.cat([_sample(DenseLabels(*part), grid, num_classes) for part in parts])


def _sample(dense: DenseLabels, grid: tuple[int, int], num_classes: int) -> Tensor:
    """Return the (B, N, C) targets of a few images."""
    count, height, width, kept = dense.classes.shape
    probabilities = dense.probabilities.float()
    # Rounding to 16 bits may have pushed the sum above 1.
    probabilities = probabilities / probabilities.sum(-1, keepdim=True).clamp_min(1)
    rest = (1 - probabilities.sum(-1, keepdim=True)).clamp_min(0) / max(num_classes - kept, 1)
    maps = rest.expand(count, height, width, num_classes).clone()
    maps = maps.scatter_(3, dense.classes.long(), probabilities).permute(0, 3, 1, 2)
    points = max(-(-height // grid[0]), -(-width // grid[1]))
    size = (count, num_classes, points * grid[0], points * grid[1])
    places = F.affine_grid(dense.geometry.float(), list(size), align_corners=False)
    sampled = F.grid_sample(maps.contiguous(), places, padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, points).flatten(2).transpose(1, 2)
