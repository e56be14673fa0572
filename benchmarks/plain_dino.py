"""Owns the plain reference of the DINO loop, written from the paper (Caron et al. 2021, algorithm 1 and appendix).

PIL and torchvision view by view, torch's default collate, fp32, one forward for each resolution, the loss as a double loop over
the pairs of views, and a Python loop over the parameters for clipping and for the teacher.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image, ImageFilter, ImageOps
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, DistributedSampler
from torchvision import transforms

from benchmarks.isolated import Setting, StepWatch
from benchmarks.pictures import Pictures, Transformed

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {"vit_mini": (64, 4, 2), "vit_tiny": (192, 12, 3), "vit_small": (384, 12, 6), "deit_small": (384, 12, 6)}
"""Width, depth and heads by our names of the networks."""


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


class PlainViews:
    """The paper's views of one PIL image, one after another."""

    def __init__(self, setting: DinoSetting) -> None:
        self.setting = setting
        jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.2, 0.1)], 0.8)
        self.colour = transforms.Compose([transforms.RandomHorizontalFlip(), jitter, transforms.RandomGrayscale(0.2)])
        self.finish = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
        bicubic = transforms.InterpolationMode.BICUBIC
        self.large = transforms.RandomResizedCrop(setting.global_size, scale=(0.4, 1.0), interpolation=bicubic)
        self.small = transforms.RandomResizedCrop(setting.local_size, scale=(0.05, 0.4), interpolation=bicubic)

    def view(self, crop: Image.Image, blur: float, solarize: float) -> Tensor:
        shown = self.colour(crop)
        if random.random() < blur:
            shown = shown.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
        if random.random() < solarize:
            shown = ImageOps.solarize(shown)
        return self.finish(shown)

    def __call__(self, image: Image.Image) -> list[Tensor]:
        views = [self.view(self.large(image), 1.0, 0.0), self.view(self.large(image), 0.1, 0.2)]
        return views + [self.view(self.small(image), 0.5, 0.0) for _ in range(self.setting.local_count)]


def plain_network(model: str, *, image_size: int, patch: int, drop_path: float, **options: object) -> VisionTransformer:
    """Return timm's vision transformer of a size.

    Its attention is torch's fused one: in fp32 on a CPU the network runs 1.13 times faster with it than with softmax(q k) v
    written out, as the published program has it, and a reference shall not be slower than it need be.
    """
    width, depth, heads = SIZES[model]
    return VisionTransformer(
        img_size=image_size,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        drop_path_rate=drop_path,
        **options,
    )


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
        total, pairs = torch.zeros(()), 0
        for i, q in enumerate(targets):
            for j, scores in enumerate(views):
                if i != j:
                    total = total + torch.sum(-q * torch.log_softmax(scores, dim=-1), dim=-1).mean()
                    pairs += 1
        self.update_center(teacher)
        return total / pairs

    @torch.no_grad()
    def update_center(self, teacher: Tensor) -> None:
        mean = teacher.sum(0, keepdim=True)
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean = mean / dist.get_world_size()
        self.center = self.center * 0.9 + mean / len(teacher) * 0.1


def clip_each(network: nn.Module, norm: float) -> None:
    """Clip each parameter's gradient by itself."""
    for parameter in network.parameters():
        if parameter.grad is not None:
            factor = norm / (parameter.grad.norm() + 1e-6)
            if factor < 1:
                parameter.grad.mul_(factor)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher towards the student, parameter by parameter."""
    for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
        mine.mul_(momentum).add_((1 - momentum) * theirs.detach())


def parameter_groups(network: nn.Module) -> list[dict[str, object]]:
    """Return the decayed parameters, then the biases and vectors, which are not."""
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    bare = [p for name, p in trained if name.endswith(".bias") or p.ndim == 1]
    decayed = [p for name, p in trained if not (name.endswith(".bias") or p.ndim == 1)]
    return [{"params": decayed}, {"params": bare, "weight_decay": 0.0}]


def cosine(start: float, end: float, steps: int) -> np.ndarray:
    """Return a schedule step by step."""
    return end + 0.5 * (start - end) * (1 + np.cos(np.pi * np.arange(steps) / steps))


def plain_loader(setting: Setting, pictures: Pictures, transform: object) -> DataLoader:
    """Return torch's loader with its default collate."""
    images = Transformed(pictures, transform)
    if setting.processes > 1:
        dist.init_process_group("gloo")
    return DataLoader(
        images,
        sampler=DistributedSampler(images) if setting.processes > 1 else None,
        shuffle=setting.processes == 1,
        batch_size=setting.own_batch,
        num_workers=setting.own_workers,
        drop_last=True,
    )


def train(setting: DinoSetting, watch: StepWatch) -> None:
    """Run DINO's algorithm 1 until the watch has seen enough."""
    torch.manual_seed(0)
    loader = plain_loader(setting, setting.pictures(), PlainViews(setting))
    student, teacher = MultiCrop(setting, 0.1), MultiCrop(setting, 0.0)
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    model = DistributedDataParallel(student) if setting.processes > 1 else student
    loss_of = PlainLoss(setting.outputs, 2 + setting.local_count)
    optimizer = torch.optim.AdamW(parameter_groups(student))
    steps = 100 * len(loader)
    rates, decays, momenta = cosine(1e-4, 1e-6, steps), cosine(0.04, 0.4, steps), cosine(0.996, 1.0, steps)
    for step, (views, _) in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        optimizer.param_groups[0]["weight_decay"] = decays[step]
        loss = loss_of(model(views), teacher(views[:2]))
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()}")
        optimizer.zero_grad()
        loss.backward()
        clip_each(student, 3.0)
        optimizer.step()
        follow(teacher, student, momenta[step])
        watch.lap()
