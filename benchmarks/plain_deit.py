"""Owns the plain reference of the supervised loop: DeiT's recipe through timm (Touvron et al. 2021), fp32; and SAM on top of it.

PIL and timm's RandAugment image by image, torch's default collate, timm's Mixup, AdamW. SAM is written from its paper (Foret et
al. 2021, algorithm 1), with a Python loop over the parameters.
"""

import math
from dataclasses import dataclass

import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from benchmarks.isolated import Setting, StepWatch
from benchmarks.pictures import Pictures
from benchmarks.plain_parts import cosine, parameter_groups, plain_loader, plain_network
from benchmarks.plain_views import plain_supervised

RHO = 0.05
"""SAM's radius."""


@dataclass(frozen=True, kw_only=True)
class SupervisedSetting(Setting):
    """A supervised loop: which network on which images."""

    model: str = "vit_tiny"
    patch: int = 4
    image_size: int = 32
    num_classes: int = 10
    side: int | None = 32
    """Side of the decoded images in pixels; none: JPEGs of 500x375 pixels, decoded as they are loaded."""
    sam: bool = False
    """Whether SAM's two passes make a step."""

    def pictures(self) -> Pictures:
        """Return the images to train on."""
        return Pictures(self.num_images, side=self.side, num_classes=self.num_classes)


@torch.no_grad()
def climb(network: nn.Module) -> list[Tensor]:
    """Go to the worst weights nearby, parameter by parameter; return the weights as they were."""
    norm = torch.norm(torch.stack([p.grad.norm(p=2) for p in network.parameters()]), p=2)
    before = []
    for parameter in network.parameters():
        before.append(parameter.detach().clone())
        parameter.add_(parameter.grad * (RHO / (norm + 1e-12)))
    return before


@torch.no_grad()
def descend(network: nn.Module, before: list[Tensor]) -> None:
    """Bring the weights back."""
    for parameter, own in zip(network.parameters(), before, strict=True):
        parameter.copy_(own)


def train(setting: SupervisedSetting, watch: StepWatch, *, fp16: bool = False) -> None:
    """Run DeiT's loop until the watch has seen enough; with `fp16` as the published program does on a GPU."""
    assert not (fp16 and setting.sam), "SAM would climb by scaled gradients"
    torch.manual_seed(0)
    device = torch.device(setting.device)
    loader = plain_loader(setting, setting.pictures(), plain_supervised(setting.image_size))
    network = plain_network(
        setting.model,
        image_size=setting.image_size,
        patch=setting.patch,
        drop_path=0.1,
        num_classes=setting.num_classes,
    ).to(device)
    mixing = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=setting.num_classes)
    criterion = SoftTargetCrossEntropy()
    optimizer = torch.optim.AdamW(parameter_groups(network), weight_decay=0.05)
    scaler = torch.amp.GradScaler(device.type, enabled=fp16)
    rates = cosine(1e-4, 1e-5, 100 * len(loader))
    for step, loaded in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        images, targets = mixing(*(part.to(device, non_blocking=True) for part in loaded))
        with torch.autocast(device.type, torch.float16, enabled=fp16):
            loss = criterion(network(images), targets)
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()}")
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if setting.sam:
            before = climb(network)
            optimizer.zero_grad()
            criterion(network(images), targets).backward()
            descend(network, before)
        scaler.step(optimizer)
        scaler.update()
        watch.lap()
