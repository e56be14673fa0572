"""Owns lightly's DINO loop, put together from its documented parts as its example does: a forward for each view, Adam, fp32.

lightly is an optional dependency, `pip install -e '.[benchmarks]'`; without it the rows are left out.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.isolated import StepWatch
from benchmarks.pictures import Transformed
from benchmarks.plain_dino import DinoSetting
from benchmarks.plain_parts import plain_network


def is_installed() -> bool:
    """Return whether lightly can be measured here."""
    return find_spec("lightly") is not None


def views(*, global_size: int = 224, local_size: int = 96, local_count: int = 8) -> Any:
    """Return lightly's transform for DINO, with its own defaults but for the number and the sizes of the views."""
    from lightly.transforms import DINOTransform

    return DINOTransform(global_crop_size=global_size, local_crop_size=local_size, n_local_views=local_count)


class Network(nn.Module):
    """A backbone with lightly's head."""

    def __init__(self, setting: DinoSetting, drop_path: float) -> None:
        from lightly.models.modules import DINOProjectionHead

        super().__init__()
        self.backbone = plain_network(
            setting.model,
            image_size=setting.global_size,
            patch=setting.patch,
            drop_path=drop_path,
            num_classes=0,
            dynamic_img_size=True,
        )
        self.head = DINOProjectionHead(self.backbone.num_features, 2048, 256, setting.outputs)

    def forward(self, view: Tensor) -> Tensor:
        return self.head(self.backbone(view).flatten(start_dim=1))


def train(setting: DinoSetting, watch: StepWatch) -> None:
    """Run lightly's loop until the watch has seen enough."""
    from lightly.loss import DINOLoss
    from lightly.models.utils import update_momentum

    assert setting.device == "cpu", "lightly's loop is measured on CPUs only"
    torch.manual_seed(0)
    transform = views(global_size=setting.global_size, local_size=setting.local_size, local_count=setting.local_count)
    loader = DataLoader(
        Transformed(setting.pictures(), transform),
        batch_size=setting.batch,
        shuffle=True,
        drop_last=True,
        num_workers=setting.workers,
    )
    student, teacher = Network(setting, 0.1), Network(setting, 0.0)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    criterion = DINOLoss(output_dim=setting.outputs, warmup_teacher_temp_epochs=5)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.001)
    for shown, _ in loader:
        update_momentum(student, teacher, m=0.996)
        teacher_out = [teacher(view) for view in shown[:2]]
        student_out = [student(view) for view in shown]
        loss = criterion(teacher_out, student_out, epoch=1)
        loss.item()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        watch.lap()
