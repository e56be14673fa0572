"""Owns the triplet loss of re-identification, with batch-hard mining over the images of all processes.

Shapes: B images of this process, D features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.nn.functional import relu, softplus


@dataclass(frozen=True, kw_only=True)
class IdentificationConfig:
    """What an identity learns from; the defaults are the TransReID baseline's (He et al. 2021, section 3.1)."""

    images_per_identity: int = 4
    """Images of each identity in a batch; a batch of train.batch_size shows train.batch_size / images_per_identity
    identities (the paper's 64 images are 16 x 4)."""
    margin: float | None = None
    """Least distance by which an image of another identity must be further away; none for the soft margin."""
    triplet_weight: float = 1.0
    """Weight of the triplet loss beside the cross-entropy's 1."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for values that cannot work."""
        if self.images_per_identity < 2:
            yield (
                "images_per_identity",
                f"{self.images_per_identity} is too few: a triplet needs 2 images of an identity.",
            )
        if self.margin is not None and self.margin < 0:
            yield "margin", f"{self.margin} must not be negative; none takes the soft margin."
        if self.triplet_weight < 0:
            yield "triplet_weight", f"{self.triplet_weight} must not be negative; 0 leaves the cross-entropy alone."


def batch_hard_triplet(features_BD: Tensor, labels_B: Tensor, *, margin: float | None) -> Tensor:
    """Return the mean over anchors of log(1 + exp(d_ap - d_an)), or of max(0, d_ap - d_an + margin).

    d_ap is the largest Euclidean distance to an image of the anchor's identity, d_an the smallest to one of another's
    (Hermans et al. 2017, equation 5). The distances are taken in float32.
    """
    features = features_BD.float()
    squares = features.square().sum(1)
    # The floor keeps the gradient of the root finite where two features are the same.
    distances = (squares[:, None] + squares - 2 * features @ features.T).clamp_min(1e-12).sqrt()
    same = labels_B[:, None] == labels_B
    furthest_same = distances.masked_fill(~same, -torch.inf).amax(1)
    nearest_other = distances.masked_fill(same, torch.inf).amin(1)
    gap = furthest_same - nearest_other
    return (softplus(gap) if margin is None else relu(gap + margin)).mean()


def triplet_over_processes(features_BD: Tensor, labels_B: Tensor, *, margin: float | None) -> Tensor:
    """Return `batch_hard_triplet` of the images of all processes, the same number on every process.

    N processes learn what one learns from the whole batch: each holds the others' features as constants, so that its
    gradient is its own images' share of the whole loss; N times the share, since the processes' gradients are averaged.
    """
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return batch_hard_triplet(features_BD, labels_B, margin=margin)
    features = _gather(features_BD.detach().float())
    features[distributed.get_rank()] = features_BD.float()
    loss = batch_hard_triplet(torch.cat(features), torch.cat(_gather(labels_B)), margin=margin)
    return loss + (len(features) - 1) * (loss - loss.detach())


def _gather(mine: Tensor) -> list[Tensor]:
    """Return every process's tensor, all of one shape."""
    parts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, mine.contiguous())
    return parts
