"""Owns the parts of the plain loops: network, loader, schedule, loss, and a Python loop wherever there could be one."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.distributed as dist
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from benchmarks.isolated import Setting
from benchmarks.pictures import Pictures, Transformed

SIZES = {"vit_mini": (64, 4, 2), "vit_tiny": (192, 12, 3), "vit_small": (384, 12, 6), "deit_small": (384, 12, 6)}
"""Width, depth and heads by our names of the networks."""


def plain_network(model: str, *, image_size: int, patch: int, drop_path: float, **options: object) -> VisionTransformer:
    """Return timm's vision transformer of a size.

    Its attention is torch's fused one: in fp32 on a CPU the network runs 1.13 times faster with it than with softmax(q k) v
    written out, as the published program has it, and a reference shall not be slower than it need be.
    """
    width, depth, heads = SIZES[model]
    network = PlainMultiCrop if options.get("dynamic_img_size") else VisionTransformer
    return network(
        img_size=image_size,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        drop_path_rate=drop_path,
        **options,
    )


class PlainMultiCrop(VisionTransformer):
    """timm's network with the position embedding of local crops as the published program of DINO interpolates it."""

    def _pos_embed(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        grid = math.isqrt(self.pos_embed.shape[1] - 1)
        position = self.pos_embed
        if (height, width) != (grid, grid):
            patches = position[:, 1:].reshape(1, grid, grid, dim).permute(0, 3, 1, 2)
            factor = ((height + 0.1) / grid, (width + 0.1) / grid)
            patches = nn.functional.interpolate(patches, scale_factor=factor, mode="bicubic")
            position = torch.cat([position[:, :1], patches.permute(0, 2, 3, 1).reshape(1, -1, dim)], dim=1)
        return torch.cat([self.cls_token.expand(batch, -1, -1), x.reshape(batch, -1, dim)], dim=1) + position


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
        pin_memory=setting.device != "cpu",
        drop_last=True,
    )


def parameter_groups(network: nn.Module) -> list[dict[str, object]]:
    """Return the decayed parameters, then the biases and vectors, which are not."""
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    bare = [p for name, p in trained if name.endswith(".bias") or p.ndim == 1]
    decayed = [p for name, p in trained if not (name.endswith(".bias") or p.ndim == 1)]
    return [{"params": decayed}, {"params": bare, "weight_decay": 0.0}]


def cosine(start: float, end: float, steps: int) -> np.ndarray:
    """Return a schedule step by step."""
    return end + 0.5 * (start - end) * (1 + np.cos(np.pi * np.arange(steps) / steps))


def double_loop(targets: Sequence[Tensor] | Tensor, scores: Sequence[Tensor] | Tensor) -> Tensor:
    """Return DINO's loss: the mean cross-entropy over the pairs of a teacher's view and another view of the student's.

    Targets are probabilities (B, K) a view, scores (B, K) are already divided by the student's temperature.
    """
    total, pairs = torch.zeros((), device=scores[0].device), 0
    for i, q in enumerate(targets):
        for j, other in enumerate(scores):
            if i != j:
                total = total + torch.sum(-q * torch.log_softmax(other, dim=-1), dim=-1).mean()
                pairs += 1
    return total / pairs


def clip_each(parameters: Iterable[nn.Parameter], norm: float) -> None:
    """Clip each parameter's gradient by itself."""
    for parameter in parameters:
        if parameter.grad is not None:
            factor = norm / (parameter.grad.norm() + 1e-6)
            if factor < 1:
                parameter.grad.mul_(factor)


@torch.no_grad()
def follow(teacher: Iterable[nn.Parameter], student: Iterable[nn.Parameter], momentum: float) -> None:
    """Move the teacher towards the student, parameter by parameter."""
    for mine, theirs in zip(teacher, student, strict=True):
        mine.mul_(momentum).add_(theirs, alpha=1 - momentum)
