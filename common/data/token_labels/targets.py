"""Training targets from token labels: the image's label map, transformed as the view (crop, flip, rotation, translation).

Shapes: B samples, h x w positions of the label map, k classes stored, C classes, N tokens of a view.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.token_labels.reader import TokenLabelBatch
from common.fp32 import full_fp32

_CHUNK = 16
"""Images whose (C, h, w) maps are expanded at a time, so that 1,000 classes take less than 100 MB."""


def token_targets(labels: TokenLabelBatch, grid: tuple[int, int], num_classes: int) -> Tensor:
    """Return (B, N, C) float32 targets for the views' tokens, in row-major order of the `grid` (rows, columns).

    A token's target is the mean of the bilinearly interpolated label map at s x s points of the token, where s is the number of
    label positions per token of an uncropped view (rounded up). The paper's code uses RoIAlign (Jiang et al. 2021), which supports
    only crops and samples fewer points in small ones. It stores logits and interpolates them before a softmax in which the classes
    not stored count as 0; here, probabilities are stored, and the remaining probability mass is spread evenly over the classes not
    stored. Where a view extends over the image's edge, the labels of the edge are replicated.
    """
    chunks = zip(*(torch.split(part, _CHUNK) for part in labels), strict=True)
    return torch.cat([_sample(TokenLabelBatch(*chunk), grid, num_classes) for chunk in chunks])


def _sample(labels: TokenLabelBatch, grid: tuple[int, int], num_classes: int) -> Tensor:
    """Return the (B, N, C) targets of one chunk of images."""
    count, height, width, kept = labels.classes.shape
    probabilities = labels.probabilities.float()
    # Rounding to 16 bits may have raised the sum above 1.
    probabilities = probabilities / probabilities.sum(-1, keepdim=True).clamp_min(1)
    rest = (1 - probabilities.sum(-1, keepdim=True)).clamp_min(0) / max(num_classes - kept, 1)
    maps = rest.expand(count, height, width, num_classes).clone()
    maps = maps.scatter_(3, labels.classes.long(), probabilities).permute(0, 3, 1, 2)
    points = max(-(-height // grid[0]), -(-width // grid[1]))
    size = (count, num_classes, points * grid[0], points * grid[1])
    with full_fp32():
        coordinates = F.affine_grid(labels.geometry.float(), list(size), align_corners=False)
    sampled = F.grid_sample(maps.contiguous(), coordinates, padding_mode="border", align_corners=False)
    return F.avg_pool2d(sampled, points).flatten(2).transpose(1, 2)
