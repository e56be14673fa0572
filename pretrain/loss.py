"""DINO's loss: cross-entropy between teacher and student views, with centering or Sinkhorn-Knopp.

Shapes: G global (teacher) views, V student views (the first G are the global ones), B images, D bottleneck dimension,
K prototypes.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.distributed import world_size
from pretrain.view_cross_entropy import LogitFunctions, compiled_functions, view_losses


@dataclass(frozen=True)
class LossParts:
    """DINO's loss and the statistics that reveal a collapse; every value is a scalar tensor on the device."""

    loss: Tensor
    """Mean cross-entropy H(teacher_i, student_j) over the pairs i != j, in nats."""
    teacher_entropy: Tensor
    """Mean entropy of the teacher's distribution of one view, in nats; ln K after a collapse to uniform."""
    kl: Tensor
    """Mean KL(teacher_i || student_j) = loss - teacher_entropy; 0 when there is nothing left to learn, as in any collapse."""
    prototype_entropy: Tensor
    """Entropy of the teacher's distribution averaged over this process's images; 0 when all images share one prototype."""


@dataclass(frozen=True)
class TeacherTargets:
    """The teacher's distributions over the prototypes for a batch: the targets of the student."""

    log_q_GBK: Tensor
    """Log-probabilities of the teacher."""
    entropy: Tensor
    """`LossParts.teacher_entropy` of the full batch."""
    prototype_entropy: Tensor
    """`LossParts.prototype_entropy` of the full batch."""

    def select(self, rows: slice) -> "TeacherTargets":
        """Return the targets of a slice of the images; the entropies remain those of the full batch."""
        return replace(self, log_q_GBK=self.log_q_GBK[:, rows])


def center_and_sharpen(teacher_GBK: Tensor, center_K: Tensor, temperature: Tensor) -> Tensor:
    """Return the log-softmax (G, B, K) of the centered logits, sharpened by the temperature."""
    return torch.log_softmax((teacher_GBK - center_K) / temperature, dim=-1)


def entropies(log_q_GBK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean entropy of the distributions and the entropy of their mean, in nats."""
    q = log_q_GBK.exp()
    mean_q = q.mean((0, 1))
    entropy_of_mean = -(mean_q * mean_q.clamp_min(torch.finfo(mean_q.dtype).tiny).log()).sum()
    return -(q * log_q_GBK).sum(-1).mean(), entropy_of_mean


class DINOLoss(nn.Module):
    """Cross-entropy between centered, sharpened teacher outputs and student outputs (DINO, section 3.1, algorithm 1)."""

    center: Tensor

    def __init__(
        self,
        out_dim: int,
        *,
        student_temp: float = 0.1,
        center_momentum: float = 0.9,
        centering: Literal["mean", "sinkhorn"] = "mean",
    ) -> None:
        super().__init__()
        self.student_temp = student_temp
        self.center_momentum = center_momentum
        self.centering = centering
        self.functions, self.center_and_sharpen, self.entropies = LogitFunctions(), center_and_sharpen, entropies
        self.register_buffer("center", torch.zeros(out_dim))

    def compile_functions(self) -> None:
        """Compile the functions of the student's and teacher's logits with torch.compile, at the first step."""
        self.functions = compiled_functions()
        self.center_and_sharpen = torch.compile(center_and_sharpen, dynamic=False)
        self.entropies = torch.compile(entropies, dynamic=False)

    @torch.no_grad()
    def teacher_targets(self, teacher_GBK: Tensor, teacher_temp: Tensor) -> TeacherTargets:
        """Return the teacher targets of this process's full batch with the current center, then update the center."""
        if self.centering == "sinkhorn":
            log_q = sinkhorn_knopp_teacher(teacher_GBK, teacher_temp)
        else:
            log_q = self.center_and_sharpen(teacher_GBK, self.center, teacher_temp)
        targets = TeacherTargets(log_q, *self.entropies(log_q))
        self.update_center(teacher_GBK)
        return targets

    def forward(self, bottleneck_VBD: Tensor, weight_KD: Tensor, targets: TeacherTargets) -> LossParts:
        """Return the student's loss with respect to the teacher targets of the same images.

        The student's logits are bottleneck_VBD @ weight_KD.T, in autocast's dtype if enabled (`view_cross_entropy`). The naive
        form is a double loop: for teacher view i, for student view j != i, add mean_b sum_k -q_i log p_j, then divide by the
        G * (V - 1) pairs. It is linear in the teacher's probabilities, so each student view is compared with their sum once.
        """
        pairs = len(targets.log_q_GBK) * (len(bottleneck_VBD) - 1)
        device = bottleneck_VBD.device.type
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        cross = view_losses(
            bottleneck_VBD,
            weight_KD,
            targets.log_q_GBK.exp(),
            temperature=self.student_temp,
            dtype=autocast or bottleneck_VBD.dtype,
            functions=self.functions,
        )
        loss = cross.sum() / pairs
        return LossParts(loss, targets.entropy, loss.detach() - targets.entropy, targets.prototype_entropy)

    @torch.no_grad()
    def update_center(self, teacher_GBK: Tensor) -> None:
        """Update the center with the mean of the teacher's outputs over views, images and all processes.

        c <- m * c + (1 - m) * mean(teacher). Every process has the same number of images, so the mean of means is the mean.
        """
        mean = teacher_GBK.mean((0, 1)).to(self.center.dtype)
        if world_size() > 1:
            dist.all_reduce(mean)
            mean /= world_size()
        self.center.mul_(self.center_momentum).add_(mean, alpha=1 - self.center_momentum)


SINKHORN_ITERATIONS = 3
"""Iterations of Sinkhorn-Knopp, as in SwAV and DINOv2."""


@torch.no_grad()
def sinkhorn_knopp_teacher(teacher_GBK: Tensor, teacher_temp: Tensor) -> Tensor:
    """Return log q (G, B, K); q sums to 1 per view and to (nearly) the same total per prototype over all views and images.

    Sinkhorn-Knopp in log space (SwAV; DINOv2, section 4): starting from exp(logit / temperature), divide each prototype by its
    sum over all views, images and processes, then each view by its sum over the prototypes; repeat 3 times. A constant factor
    on all prototypes cancels in the second division, so the totals are not tracked.
    """
    log_q = teacher_GBK / teacher_temp
    for _ in range(SINKHORN_ITERATIONS):
        log_q = log_q - _log_sum_over_images(log_q)
        log_q = torch.log_softmax(log_q, dim=-1)
    return log_q


def _log_sum_over_images(log_q_GBK: Tensor) -> Tensor:
    """Return the log-sum-exp (K,) over views, images and all processes."""
    highest = log_q_GBK.amax((0, 1))
    if world_size() == 1:
        return highest + (log_q_GBK - highest).exp().sum((0, 1)).log()
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    total = (log_q_GBK - highest).exp().sum((0, 1))
    dist.all_reduce(total)
    return highest + total.log()
