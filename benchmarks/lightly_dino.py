"""Owns lightly's DINO loop, put together from its documented parts as its example does: a forward for each view, Adam, fp32.

lightly is an optional dependency, `pip install -e '.[benchmarks]'`; without it the rows are left out.
"""

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.isolated import StepWatch
from benchmarks.pictures import Transformed
from benchmarks.plain_dino import DinoSetting, plain_network


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
    from lightly.transforms.dino_transform import DINOTransform

    torch.manual_seed(0)
    transform = DINOTransform(
        global_crop_size=setting.global_size, local_crop_size=setting.local_size, n_local_views=setting.local_count
    )
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
    for views, _ in loader:
        update_momentum(student, teacher, m=0.996)
        teacher_out = [teacher(view) for view in views[:2]]
        student_out = [student(view) for view in views]
        loss = criterion(teacher_out, student_out, epoch=1)
        loss.item()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        watch.lap()
