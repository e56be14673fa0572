"""Owns DINO's loss: cross-entropy between every teacher view and every other student view, and how it is balanced.

Shapes: G teacher (global) views, V student views of which the first G are the teacher's, B images, D width of the
bottleneck, K outputs.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from pretrain.view_cross_entropy import Kernels, compiled_kernels, view_losses


@dataclass(frozen=True)
class LossParts:
    """DINO's loss with what shows a collapse as it happens; every value a scalar tensor on the device."""

    loss: Tensor
    """Mean cross-entropy H(teacher_i, student_j) over the pairs i != j, in nats."""
    teacher_entropy: Tensor
    """Mean entropy of the teacher's distribution for one view, in nats; ln K when it collapsed to uniform."""
    kl: Tensor
    """Mean KL(teacher_i || student_j) = loss - teacher_entropy; 0 when nothing is left to learn, as in any collapse."""
    code_entropy: Tensor
    """Entropy of the teacher's distribution averaged over this process's images; 0 when all fall on one code."""


@dataclass(frozen=True)
class Codes:
    """What the teacher says of a batch: the target of every student view."""

    log_q_GBK: Tensor
    """The teacher's log probabilities."""
    entropy: Tensor
    """`LossParts.teacher_entropy`, of the whole batch."""
    code_entropy: Tensor
    """`LossParts.code_entropy`, of the whole batch."""

    def of(self, rows: slice) -> "Codes":
        """Return the codes of some of the images; the entropies stay the whole batch's."""
        return replace(self, log_q_GBK=self.log_q_GBK[:, rows])


def sharpen(teacher_GBK: Tensor, center_K: Tensor, temperature: Tensor) -> Tensor:
    """Return the logarithm of the softmax of centred scores (G, B, K)."""
    return torch.log_softmax((teacher_GBK - center_K) / temperature, dim=-1)


def entropies(log_q_GBK: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean entropy of distributions, and the entropy of their mean, in nats."""
    q = log_q_GBK.exp()
    mean_q = q.mean((0, 1))
    of_mean = -(mean_q * mean_q.clamp_min(torch.finfo(mean_q.dtype).tiny).log()).sum()
    return -(q * log_q_GBK).sum(-1).mean(), of_mean


class DINOLoss(nn.Module):
    """Cross-entropy of sharpened, centred teacher outputs and student outputs (DINO, section 3.1, algorithm 1)."""

    center: Tensor

    def __init__(
        self,
        outputs: int,
        *,
        student_temperature: float = 0.1,
        center_momentum: float = 0.9,
        centering: Literal["mean", "sinkhorn"] = "mean",
    ) -> None:
        super().__init__()
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum
        self.centering = centering
        self.kernels, self.sharpen, self.entropies = Kernels(), sharpen, entropies
        self.register_buffer("center", torch.zeros(outputs))

    def compile_kernels(self) -> None:
        """Have what is done to scores, the student's and the teacher's, compiled at the first step."""
        self.kernels = compiled_kernels()
        self.sharpen = torch.compile(sharpen, dynamic=False)
        self.entropies = torch.compile(entropies, dynamic=False)

    @torch.no_grad()
    def codes(self, teacher_GBK: Tensor, teacher_temperature: Tensor) -> Codes:
        """Return the teacher's codes of this process's whole batch under the old centre, then move the centre."""
        if self.centering == "sinkhorn":
            log_q = balance_codes(teacher_GBK, teacher_temperature)
        else:
            log_q = self.sharpen(teacher_GBK, self.center, teacher_temperature)
        codes = Codes(log_q, *self.entropies(log_q))
        self.update_center(teacher_GBK)
        return codes

    def forward(self, bottleneck_VBD: Tensor, weight_KD: Tensor, codes: Codes) -> LossParts:
        """Return the loss of the student against the teacher's codes of the same images.

        The student's scores are bottleneck_VBD @ weight_KD.T, in autocast's type where it is on (`view_cross_entropy`). The
        plain form is a double loop: for teacher view i, for student view j != i, add mean_b sum_k -q_i log p_j, and divide by
        the G * (V - 1) pairs. It is linear in the teacher's probabilities: each student view meets their sum once.
        """
        pairs = len(codes.log_q_GBK) * (len(bottleneck_VBD) - 1)
        device = bottleneck_VBD.device.type
        autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        cross = view_losses(
            bottleneck_VBD,
            weight_KD,
            codes.log_q_GBK.exp(),
            temperature=self.student_temperature,
            dtype=autocast or bottleneck_VBD.dtype,
            kernels=self.kernels,
        )
        loss = cross.sum() / pairs
        return LossParts(loss, codes.entropy, loss.detach() - codes.entropy, codes.code_entropy)

    @torch.no_grad()
    def update_center(self, teacher_GBK: Tensor) -> None:
        """Move the centre towards the mean of the teacher's outputs over views, images and all processes.

        c <- m * c + (1 - m) * mean(teacher). Every process holds equally many images, so the mean of means is the mean.
        """
        mean = teacher_GBK.mean((0, 1)).to(self.center.dtype)
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        self.center.mul_(self.center_momentum).add_(mean, alpha=1 - self.center_momentum)


SINKHORN_ITERATIONS = 3
"""Rounds of Sinkhorn-Knopp, as in SwAV and DINOv2."""


@torch.no_grad()
def balance_codes(teacher_GBK: Tensor, teacher_temperature: Tensor) -> Tensor:
    """Return log q (G, B, K): q sums to 1 for each view and, nearly, to the same for each code over all views and images.

    Sinkhorn-Knopp in logarithms (SwAV; DINOv2, section 4): from exp(score / temperature), divide each code by its sum
    over all views, images and processes, then each view by its sum over the codes; thrice. A constant factor on all
    codes drops out in the second division, so no totals are kept.
    """
    log_q = teacher_GBK / teacher_temperature
    for _ in range(SINKHORN_ITERATIONS):
        log_q = log_q - _log_sum_over_images(log_q)
        log_q = torch.log_softmax(log_q, dim=-1)
    return log_q


def _log_sum_over_images(log_q_GBK: Tensor) -> Tensor:
    """Return log sum exp (K) over views, images and all processes."""
    highest = log_q_GBK.amax((0, 1))
    if not (dist.is_available() and dist.is_initialized()):
        return highest + (log_q_GBK - highest).exp().sum((0, 1)).log()
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    total = (log_q_GBK - highest).exp().sum((0, 1))
    dist.all_reduce(total)
    return highest + total.log()
