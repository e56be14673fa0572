"""DINO as one module: student, teacher, projection heads and loss. The student runs in a single forward call, as DDP requires.

Shapes: B images, V views of one resolution stacked as (V, B, C, H, W), G global views, D features, K prototypes. Global views come
first.
"""

import copy

import torch
from torch import Tensor, nn

from common.training.ema import update_ema
from common.training.micro_batches import micro_batches
from pretrain.head import DINOHead
from pretrain.loss import DINOLoss, LossParts, TeacherTargets


class DINO(nn.Module):
    """Student and teacher of the same architecture; the teacher is an EMA of the student (DINO, algorithm 1).

    The teacher stays in train mode: batch norm in its stem uses the statistics of its own batches and tracks its own running
    statistics; the EMA covers parameters only. Drop path applies to the student only. Frozen parameters (`freeze`, `lora`) are the
    same in both; of LoRA's updates the EMA averages A and B, not their product.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module, head: DINOHead, loss: DINOLoss) -> None:
        super().__init__()
        self.student: nn.Module = student
        self.student_head = head
        self.teacher: nn.Module = teacher
        self.teacher_head = copy.deepcopy(head)
        self.teacher.load_state_dict(student.state_dict())
        for parameter in (*self.teacher.parameters(), *self.teacher_head.parameters()):
            parameter.requires_grad_(False)
        self.loss = loss

    @torch.no_grad()
    def teacher_targets(
        self, views_GB: Tensor, teacher_temp: Tensor, *, micro_batch_size: int | None = None
    ) -> TeacherTargets:
        """Return the teacher targets of the normalized global views (G, B, C, H, W) and update the center.

        With `micro_batch_size` the teacher processes that many images at a time, but the center and Sinkhorn-Knopp still use all
        of them: the targets equal those of the full batch, except with batch norm, which normalizes per micro-batch.
        """
        parts = micro_batches(views_GB.shape[1], micro_batch_size)
        logits = [self._teacher_logits(views_GB[:, part.rows]) for part in parts]
        return self.loss.teacher_targets(torch.cat(logits, dim=1), teacher_temp)

    def forward(self, views: list[Tensor], targets: TeacherTargets) -> LossParts:
        """Return the student's loss on normalized views: one tensor (V, B, C, H, W) per resolution, global views first."""
        bottleneck = self.student_head.project(_features(self.student, views))
        weight = self.student_head.last_layer.weight
        return self.loss(bottleneck.view(-1, views[0].shape[1], bottleneck.shape[1]), weight, targets)  # type: ignore[no-any-return]

    def _teacher_logits(self, views_GB: Tensor) -> Tensor:
        """Return the teacher's logits (G, B, K) in fp32 for views (G, B, C, H, W)."""
        logits: Tensor = self.teacher_head(_features(self.teacher, [views_GB])).float()
        return logits.view(*views_GB.shape[:2], -1)

    def student_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters."""
        return [p for p in (*self.student.parameters(), *self.student_head.parameters()) if p.requires_grad]

    def freeze_last_layer(self) -> None:
        """Drop the gradient of the head's last layer; call after backward while the layer is frozen."""
        for parameter in self.student_head.last_layer.parameters():
            parameter.grad = None

    def update_teacher(self, momentum: float) -> None:
        """Update the teacher's parameters by EMA: t <- momentum * t + (1 - momentum) * s; frozen ones are equal already."""
        ours = (*self.teacher.parameters(), *self.teacher_head.parameters())
        theirs = (*self.student.parameters(), *self.student_head.parameters())
        pairs = [(t, s) for t, s in zip(ours, theirs, strict=True) if s.requires_grad]
        update_ema([t for t, _ in pairs], [s for _, s in pairs], momentum)


def _features(network: nn.Module, views: list[Tensor]) -> Tensor:
    """Return the features (V * B, D) of all views, with one forward pass per resolution."""
    return torch.cat([network(view.flatten(0, 1)) for view in views])
