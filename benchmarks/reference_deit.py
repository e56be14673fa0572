"""Reference implementation of the supervised loop: DeiT's recipe through timm (Touvron et al. 2021), fp32, optionally with SAM.

PIL and timm's RandAugment image by image, torch's default collate, timm's Mixup, AdamW. SAM follows its paper (Foret et al. 2021,
algorithm 1), with a Python loop over the parameters.
"""

import math
from dataclasses import dataclass

import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from benchmarks.isolated import Setting, StepTimer
from benchmarks.reference_parts import (
    HALF,
    ReferencePrecision,
    cosine,
    parameter_groups,
    reference_loader,
    reference_network,
)
from benchmarks.reference_views import reference_transform
from benchmarks.synthetic_images import SyntheticImages

RHO = 0.05
"""SAM's neighborhood size."""


@dataclass(frozen=True, kw_only=True)
class SupervisedSetting(Setting):
    """Setting of a supervised loop: network and images."""

    model: str = "vit_tiny"
    patch: int = 4
    image_size: int = 32
    num_classes: int = 10
    side: int | None = 32
    """Side of decoded images in pixels; none = JPEGs of 500x375 pixels, decoded by the loader."""
    sam: bool = False
    """Whether to train with SAM, two passes per step."""

    def images(self) -> SyntheticImages:
        """Return the training images."""
        return SyntheticImages(self.num_images, side=self.side, num_classes=self.num_classes)


@torch.no_grad()
def perturb(network: nn.Module) -> list[Tensor]:
    """Perturb the weights as SAM does, parameter by parameter; return the original weights."""
    norm = torch.norm(torch.stack([p.grad.norm(p=2) for p in network.parameters()]), p=2)
    before = []
    for parameter in network.parameters():
        before.append(parameter.detach().clone())
        parameter.add_(parameter.grad * (RHO / (norm + 1e-12)))
    return before


@torch.no_grad()
def restore(network: nn.Module, before: list[Tensor]) -> None:
    """Restore the original weights."""
    for parameter, original in zip(network.parameters(), before, strict=True):
        parameter.copy_(original)


def train(
    setting: SupervisedSetting, timer: StepTimer, *, precision: ReferencePrecision = "fp32", compiled: bool = False
) -> None:
    """Run DeiT's loop until the timer stops it; in fp16 as the published program does on a GPU.

    bf16 and torch.compile are what users of the program would switch on.
    """
    assert not (precision == "fp16" and setting.sam), "SAM would perturb by scaled gradients"
    torch.manual_seed(0)
    device = torch.device(setting.device)
    loader = reference_loader(setting, setting.images(), reference_transform(setting.image_size))
    network = reference_network(
        setting.model,
        precision=precision,
        device=setting.device,
        image_size=setting.image_size,
        patch=setting.patch,
        drop_path=0.1,
        num_classes=setting.num_classes,
    ).to(device)
    if compiled:
        network.compile()
    mixing = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=setting.num_classes)
    criterion = SoftTargetCrossEntropy()
    optimizer = torch.optim.AdamW(parameter_groups(network), weight_decay=0.05)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    rates = cosine(1e-4, 1e-5, 100 * len(loader))
    for step, loaded in enumerate(loader):
        for group in optimizer.param_groups:
            group["lr"] = rates[step]
        images, targets = mixing(*(part.to(device, non_blocking=True) for part in loaded))
        with torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF):
            loss = criterion(network(images), targets)
        if not math.isfinite(loss.item()):
            raise RuntimeError(f"the loss is {loss.item()}")
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        if setting.sam:
            before = perturb(network)
            optimizer.zero_grad()
            with torch.autocast(device.type, HALF.get(precision), enabled=precision in HALF):
                second = criterion(network(images), targets)
            second.backward()
            restore(network, before)
        scaler.step(optimizer)
        scaler.update()
        timer.lap()
