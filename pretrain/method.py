"""Owns DINO as one module: student and teacher, their heads, the loss. The student has one forward call, so one DDP forward.

Shapes: B images, views of one resolution stacked as (V, B, 3, S, S), K outputs. Global views come first.
"""

import copy

import torch
from torch import Tensor, nn

from common.training.ema import update_average
from common.training.micro_batches import micro_batches
from pretrain.head import DINOHead
from pretrain.loss import Codes, DINOLoss, LossParts


class DINO(nn.Module):
    """Teacher and student of one architecture; the teacher is the student's moving average (DINO, algorithm 1).

    The teacher stays in train mode: a batch norm in its stem uses the statistics of its own batches and keeps its own
    running ones, the average covers parameters only. Drop path acts in the student alone.
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
    def teach(self, views_GB: Tensor, teacher_temperature: Tensor, *, micro_batch: int | None = None) -> Codes:
        """Return the teacher's codes of the normalised global views (G, B, 3, S, S), and move the centre.

        With `micro_batch` the teacher looks at so many images at a time, and centre or Sinkhorn balance still see all of them:
        the codes are the whole batch's, but for a batch norm in the stem, which takes its statistics from each part.
        """
        parts = micro_batches(views_GB.shape[1], micro_batch)
        scores = [self._teacher_scores(views_GB[:, part.rows]) for part in parts]
        return self.loss.codes(torch.cat(scores, dim=1), teacher_temperature)

    def forward(self, views: list[Tensor], codes: Codes) -> LossParts:
        """Return the student's loss on normalised views, one tensor (V, B, 3, S, S) per resolution, the global ones first."""
        bottleneck = self.student_head.project(_features(self.student, views))
        weight = self.student_head.last_layer.weight
        return self.loss(bottleneck.view(-1, views[0].shape[1], bottleneck.shape[1]), weight, codes)  # type: ignore[no-any-return]

    def _teacher_scores(self, views_GB: Tensor) -> Tensor:
        """Return the teacher's scores (G, B, K) in fp32 for views (G, B, 3, S, S)."""
        scores: Tensor = self.teacher_head(_features(self.teacher, [views_GB])).float()
        return scores.view(*views_GB.shape[:2], -1)

    def student_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that are trained."""
        return [p for p in (*self.student.parameters(), *self.student_head.parameters()) if p.requires_grad]

    def freeze_last_layer(self) -> None:
        """Drop the gradient of the head's last layer; after backward, while it is to stay as it is."""
        for parameter in self.student_head.last_layer.parameters():
            parameter.grad = None

    def update_teacher(self, momentum: float) -> None:
        """Move the teacher's parameters towards the student's: t <- momentum * t + (1 - momentum) * s."""
        update_average(
            [*self.teacher.parameters(), *self.teacher_head.parameters()],
            [*self.student.parameters(), *self.student_head.parameters()],
            momentum,
        )


def _features(network: nn.Module, views: list[Tensor]) -> Tensor:
    """Return the features (V * B, D) of all views; each resolution goes through the network in one piece."""
    return torch.cat([network(view.flatten(0, 1)) for view in views])
