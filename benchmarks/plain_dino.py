"""Owns the plain reference of the DINO loop, written from the paper (Caron et al. 2021, algorithm 1 and appendix).

PIL and torchvision view by view, torch's default collate, fp32, one forward for each resolution, the loss as a double loop over
the pairs of views, and a Python loop over the parameters for clipping and for the teacher.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import weight_norm

from benchmarks.isolated import Setting, StepWatch
from benchmarks.pictures import Pictures
from benchmarks.plain_parts import clip_each, cosine, double_loop, follow, parameter_groups, plain_loader, plain_network
from benchmarks.plain_views import PlainViews
from common.data.augment.multi_crop import ViewsConfig


@dataclass(frozen=True, kw_only=True)
class DinoSetting(Setting):
    """A DINO loop: which network on which views."""

    model: str = "vit_tiny"
    patch: int = 4
    outputs: int = 4096
    global_size: int = 32
    local_size: int = 16
    local_count: int = 8
    side: int | None = 32
    """Side of the decoded images in pixels; none: JPEGs of 500x375 pixels, decoded as they are loaded."""

    def pictures(self) -> Pictures:
        """Return the images to train on."""
        return Pictures(self.num_images, side=self.side, num_classes=10)

    @property
    def views(self) -> ViewsConfig:
        """Return the paper's views in this number and these sizes."""
        return ViewsConfig(global_size=self.global_size, local_size=self.local_size, local_count=self.local_count)


class MultiCrop(nn.Module):
    """A network and its head: one forward of the network for each resolution, one of the head for all views."""

    def __init__(self, setting: DinoSetting, drop_path: float) -> None:
        super().__init__()
        self.backbone = plain_network(
            setting.model,
            image_size=setting.global_size,
            patch=setting.patch,
            drop_path=drop_path,
            num_classes=0,
            dynamic_img_size=True,
        )
        self.head = nn.Sequential(
            nn.Linear(self.backbone.num_features, 2048),
            nn.GELU(),
            nn.Linear(2048, 2048),
            nn.GELU(),
            nn.Linear(2048, 256),
        )
        self.last = weight_norm(nn.Linear(256, setting.outputs, bias=False))
        gain = self.last.parametrizations["weight"].original0
        gain.data.fill_(1.0)
        gain.requires_grad_(False)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        sizes = sorted({view.shape[-1] for view in views}, reverse=True)
        alike = [torch.cat([view for view in views if view.shape[-1] == size]) for size in sizes]
        features = torch.cat([self.backbone(images) for images in alike])
        return self.last(nn.functional.normalize(self.head(features), dim=-1))


class PlainLoss(nn.Module):
    """DINO's loss over the pairs of views, with the centre."""

    def __init__(self, outputs: int, num_views: int) -> None:
        super().__init__()
        self.num_views = num_views
        self.register_buffer("center", torch.zeros(1, outputs))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        views = (student / 0.1).chunk(self.num_views)
        targets = torch.softmax((teacher - self.center) / 0.04, dim=-1).detach().chunk(2)
        self.update_center(teacher)
        return double_loop(targets, views)

    @torch.no_grad()
    def update_center(self, teacher: Tensor) -> None:
        mean = teacher.sum(0, keepdim=True)
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean = mean / dist.get_world_size()
        self.center = self.center * 0.9 + mean / len(teacher) * 0.1


def train(setting: DinoSetting, watch: StepWatch, *, fp16: bool = False) -> None:
    """Run DINO's algorithm 1 until the watch has seen enough; with `fp16` as the published program does on a GPU."""
    torch.manual_seed(0)
    device, num_views = torch.device(setting.device), 2 + setting.local_count
    loader = plain_loader(setting, setting.pictures(), PlainViews(setting.views))
    student, teacher = MultiCrop(setting, 0.1).to(device), MultiCrop(setting, 0.0).to(device)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    model = DistributedDataParallel(student) if setting.processes > 1 else student
    loss_of = PlainLoss(setting.outputs, num_views).to(device)
    optimizer = torch.optim.AdamW(parameter_groups(student))
    scaler = torch.amp.GradScaler(device.type, enabled=fp16)
    steps = 100 * len(loader)
    rates, decays, momenta = cosine(1e-4, 1e-6, steps), cosine(0.04, 0.4, steps), cosine(0.996, 1.0, steps)
    for step, (loaded, _) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.param_groups[0]["weight_decay"] = decays[step]
        views = [view.to(device, non_blocking=True) for view in loaded]
        with torch.autocast(device.type, torch.float16, enabled=fp16):
            loss = loss_of(model(views), teacher(views[:2]))
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()}")
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip_each(student.parameters(), 3.0)
        scaler.step(optimizer)
        scaler.update()
        follow(teacher.parameters(), student.parameters(), momenta[step])
        watch.lap()
