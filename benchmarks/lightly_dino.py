"""lightly's DINO loop, built from its documented parts as in its example: one forward pass per view, Adam, fp32.

lightly is an optional dependency, `pip install -e '.[benchmarks]'`; without it these rows are skipped.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.isolated import StepTimer
from benchmarks.reference_dino import DinoSetting
from benchmarks.reference_parts import reference_network
from benchmarks.synthetic_images import TransformedImages


def is_installed() -> bool:
    """Return whether lightly is installed."""
    return find_spec("lightly") is not None


def views(*, global_size: int = 224, local_size: int = 96, num_local: int = 8) -> Any:
    """Return lightly's transform for DINO, with its defaults except for the number and sizes of the views."""
    from lightly.transforms import DINOTransform

    return DINOTransform(global_crop_size=global_size, local_crop_size=local_size, n_local_views=num_local)


class Network(nn.Module):
    """A backbone with lightly's head."""

    def __init__(self, setting: DinoSetting, drop_path: float) -> None:
        from lightly.models.modules import DINOProjectionHead

        super().__init__()
        self.backbone = reference_network(
            setting.model,
            image_size=setting.global_size,
            patch=setting.patch,
            drop_path=drop_path,
            num_classes=0,
            dynamic_img_size=True,
        )
        self.head = DINOProjectionHead(self.backbone.num_features, 2048, 256, setting.out_dim)

    def forward(self, view: Tensor) -> Tensor:
        return self.head(self.backbone(view).flatten(start_dim=1))


def train(setting: DinoSetting, timer: StepTimer) -> None:
    """Run lightly's loop until the timer stops it."""
    from lightly.loss import DINOLoss
    from lightly.models.utils import update_momentum

    assert setting.device == "cpu", "lightly's loop is only measured on CPUs"
    torch.manual_seed(0)
    transform = views(global_size=setting.global_size, local_size=setting.local_size, num_local=setting.num_local)
    loader = DataLoader(
        TransformedImages(setting.images(), transform),
        batch_size=setting.batch,
        shuffle=True,
        drop_last=True,
        num_workers=setting.workers,
    )
    student, teacher = Network(setting, 0.1), Network(setting, 0.0)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    criterion = DINOLoss(output_dim=setting.out_dim, warmup_teacher_temp_epochs=5)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.001)
    for images, _ in loader:
        update_momentum(student, teacher, m=0.996)
        teacher_out = [teacher(view) for view in images[:2]]
        student_out = [student(view) for view in images]
        loss = criterion(teacher_out, student_out, epoch=1)
        loss.item()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        timer.lap()
