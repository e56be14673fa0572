"""Reference implementation of the DINO loop, from the paper (Caron et al. 2021, algorithm 1 and appendix).

PIL and torchvision view by view, torch's default collate, fp32, one forward pass per resolution, the loss as a double loop over
the pairs of views, and Python loops over the parameters for clipping and the teacher's EMA.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import weight_norm

from benchmarks.isolated import Setting, StepTimer
from benchmarks.reference_parts import (
    HALF,
    ReferencePrecision,
    clip_per_parameter,
    cosine,
    double_loop,
    parameter_groups,
    reference_loader,
    reference_network,
    reference_update_ema,
)
from benchmarks.reference_views import ReferenceViews
from benchmarks.synthetic_images import SyntheticImages
from common.data.augment.multi_crop import CropsConfig


@dataclass(frozen=True, kw_only=True)
class DinoSetting(Setting):
    """Setting of a DINO loop: network and views."""

    model: str = "vit_tiny"
    patch: int = 4
    out_dim: int = 4096
    global_size: int = 32
    local_size: int = 16
    num_local: int = 8
    side: int | None = 32
    """Side of decoded images in pixels; none = JPEGs of 500x375 pixels, decoded by the loader."""

    def images(self) -> SyntheticImages:
        """Return the training images."""
        return SyntheticImages(self.num_images, side=self.side, num_classes=10)

    @property
    def crops(self) -> CropsConfig:
        """Return the paper's views with this number and these sizes."""
        return CropsConfig(global_size=self.global_size, local_size=self.local_size, num_local=self.num_local)


class MultiCrop(nn.Module):
    """A backbone and its head: one forward pass of the backbone per resolution, one of the head for all views."""

    def __init__(self, setting: DinoSetting, drop_path: float, precision: ReferencePrecision = "fp32") -> None:
        super().__init__()
        self.backbone = reference_network(
            setting.model,
            precision=precision,
            device=setting.device,
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
        self.last = weight_norm(nn.Linear(256, setting.out_dim, bias=False))
        gain = self.last.parametrizations["weight"].original0
        gain.data.fill_(1.0)
        gain.requires_grad_(False)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        sizes = sorted({view.shape[-1] for view in views}, reverse=True)
        batches = [torch.cat([view for view in views if view.shape[-1] == size]) for size in sizes]
        features = torch.cat([self.backbone(batch) for batch in batches])
        return self.last(nn.functional.normalize(self.head(features), dim=-1))


class ReferenceLoss(nn.Module):
    """DINO's loss over the pairs of views, with centering."""

    def __init__(self, out_dim: int, num_views: int) -> None:
        super().__init__()
        self.num_views = num_views
        self.register_buffer("center", torch.zeros(1, out_dim))

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


def train(
    setting: DinoSetting, timer: StepTimer, *, precision: ReferencePrecision = "fp32", compiled: bool = False
) -> None:
    """Run DINO's algorithm 1 until the timer stops it; in fp16 as the published program does on a GPU.

    bf16 and torch.compile are what users of the program would switch on.
    """
    torch.manual_seed(0)
    device, num_views = torch.device(setting.device), 2 + setting.num_local
    loader = reference_loader(setting, setting.images(), ReferenceViews(setting.crops))
    student, teacher = (MultiCrop(setting, rate, precision).to(device) for rate in (0.1, 0.0))
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    if compiled:
        student.compile()
        teacher.compile()
    model = DistributedDataParallel(student) if setting.processes > 1 else student
    criterion = ReferenceLoss(setting.out_dim, num_views).to(device)
    optimizer = torch.optim.AdamW(parameter_groups(student))
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    steps = 100 * len(loader)
    rates, decays, momenta = cosine(1e-4, 1e-6, steps), cosine(0.04, 0.4, steps), cosine(0.996, 1.0, steps)
    for step, (loaded, _) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.param_groups[0]["weight_decay"] = decays[step]
        views = [view.to(device, non_blocking=True) for view in loaded]
        with torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF):
            loss = criterion(model(views), teacher(views[:2]))
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()}")
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip_per_parameter(student.parameters(), 3.0)
        scaler.step(optimizer)
        scaler.update()
        reference_update_ema(teacher.parameters(), student.parameters(), momenta[step])
        timer.lap()
