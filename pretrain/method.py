"""Owns DINO as one module: student and teacher, their heads, the loss. One forward call, so one DDP forward.

Shapes: B images, views of one resolution stacked as (V, B, 3, S, S), K outputs. Global views come first.
"""

import copy

import torch
from torch import Tensor, nn

from common.training.averaging import update_average
from pretrain.head import DINOHead
from pretrain.loss import DINOLoss, LossParts


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

    def forward(self, views: list[Tensor], teacher_temperature: Tensor) -> LossParts:
        """Return the loss of normalised views, one tensor (V, B, 3, S, S) per resolution, the global ones first."""
        num_images = views[0].shape[1]
        with torch.no_grad():
            teacher = self.teacher_head(self.teacher(views[0].flatten(0, 1)))
        features = torch.cat([self.student(view.flatten(0, 1)) for view in views])
        student = self.student_head(features)
        return self.loss(  # type: ignore[no-any-return]
            student.float().unflatten(0, (-1, num_images)),
            teacher.float().unflatten(0, (-1, num_images)),
            teacher_temperature,
        )

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
