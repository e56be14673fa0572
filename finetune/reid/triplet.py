"""Triplet loss of re-identification (ReID), with batch-hard mining over the images of all processes.

Shapes: B images of this process, D features.
"""

from typing import Annotated

import torch
import torch.distributed as distributed
from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu, softplus

from common.config import Config
from common.config_messages import Otherwise
from common.distributed import world_size


class ReidConfig(Config):
    """Batches and triplet loss of re-identification; the defaults are the TransReID baseline's (He et al. 2021, section 3.1)."""

    images_per_identity: Annotated[
        int, Field(ge=2), Otherwise("must be at least 2: a triplet needs 2 images of an identity.")
    ] = 4
    """Images per identity in a batch, K of PK sampling; a batch holds train.batch_size / images_per_identity identities, P (in the
    paper 64 images are 16 x 4)."""
    margin: Annotated[float, Field(ge=0), Otherwise("must not be negative; none uses the soft margin.")] | None = None
    """Margin by which an image of another identity must be further away; none = soft margin."""
    triplet_weight: Annotated[float, Field(ge=0), Otherwise("must not be negative; 0 disables the triplet loss.")] = 1.0
    """Weight of the triplet loss; that of the cross-entropy is 1."""


def batch_hard_triplet(features_BD: Tensor, labels_B: Tensor, *, margin: float | None) -> Tensor:
    """Return the mean over anchors of log(1 + exp(d_ap - d_an)), or of max(0, d_ap - d_an + margin).

    d_ap is the largest Euclidean distance to an image of the anchor's identity, d_an the smallest to an image of another identity
    (Hermans et al. 2017, equation 5). Distances are computed in float32, from differences: |a|^2 + |b|^2 - 2 a.b would lose the
    digits of close features, and almost all of them in TF32. Only the two of each anchor have a gradient, so that memory is of B^2
    and B D numbers; that of equal features is 0.
    """
    features = features_BD.float()
    same = labels_B[:, None] == labels_B
    with torch.no_grad():
        distances = torch.cdist(features, features, compute_mode="donot_use_mm_for_euclid_dist")
        furthest_same = distances.masked_fill(~same, -torch.inf).argmax(1)
        nearest_other = distances.masked_fill(same, torch.inf).argmin(1)
    to_other = torch.where(same.all(1), torch.inf, _distances(features, nearest_other))
    gap = _distances(features, furthest_same) - to_other
    return (softplus(gap) if margin is None else relu(gap + margin)).mean()


def _distances(features: Tensor, rows: Tensor) -> Tensor:
    """Return the distance of each of the features (B, D) to that in its row of `rows` (B,)."""
    # The lower bound keeps the gradient of the square root finite when two features are equal.
    return (features - features[rows]).square().sum(1).clamp_min(1e-12).sqrt()


def triplet_over_processes(features_BD: Tensor, labels_B: Tensor, *, margin: float | None) -> Tensor:
    """Return `batch_hard_triplet` over the images of all processes; the value is the same on every process.

    The gradient equals that of a single process with the full batch: each process treats the features of the others as constants,
    so its gradient is that of its own images, multiplied by the number of processes because DDP averages gradients over processes.
    """
    if world_size() == 1:
        return batch_hard_triplet(features_BD, labels_B, margin=margin)
    features = _gather(features_BD.detach().float())
    features[distributed.get_rank()] = features_BD.float()
    loss = batch_hard_triplet(torch.cat(features), torch.cat(_gather(labels_B)), margin=margin)
    return loss + (len(features) - 1) * (loss - loss.detach())


def _gather(tensor: Tensor) -> list[Tensor]:
    """Return the tensors of all processes, which must have the same shape."""
    gathered = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(gathered, tensor.contiguous())
    return gathered
