"""Parts of the reference loops: network, loader, schedule, loss, with explicit Python loops instead of batched operations."""

import math
import statistics
import time
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from benchmarks.isolated import Setting
from benchmarks.synthetic_images import SyntheticImages, TransformedImages

ReferencePrecision = Literal["fp32", "bf16", "fp16"]
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""Types of autocast by precision; there is none in fp32."""
SIZES = {"vit_mini": (64, 4, 2), "vit_tiny": (192, 12, 3), "vit_small": (384, 12, 6), "deit_small": (384, 12, 6)}
"""Width, depth and heads by our names of the networks."""


def reference_network(
    model: str,
    *,
    image_size: int,
    patch: int,
    drop_path: float,
    precision: ReferencePrecision = "fp32",
    device: str = "cpu",
    **options: object,
) -> VisionTransformer:
    """Return timm's vision transformer of the size `model`.

    Its attention is torch's fused one or, where that is faster on this processor, written out as in the published program: a
    reference should not be slower than necessary.
    """
    width, depth, heads = SIZES[model]
    network = (MultiCropViT if options.get("dynamic_img_size") else VisionTransformer)(
        img_size=image_size,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        drop_path_rate=drop_path,
        **options,
    )
    tokens = (image_size // patch) ** 2 + 1
    if device == "cpu" and not is_fused_attention_faster(precision, tokens=tokens, heads=heads, width=width // heads):
        for block in network.blocks:
            block.attn.fused_attn = False
    return network


@cache
def is_fused_attention_faster(precision: ReferencePrecision, *, tokens: int, heads: int, width: int) -> bool:
    """Return whether torch's fused attention takes less time on the CPU than two products and a softmax, forward and backward.

    It depends on the processor, the precision and the shapes.
    """
    with torch.random.fork_rng(devices=[]):
        images = max(1, 2**21 // (tokens * heads * width))
        q, k, v = (torch.randn(images, heads, tokens, width, requires_grad=True) for _ in range(3))

    def written_out() -> Tensor:
        return (q * width**-0.5 @ k.transpose(-2, -1)).softmax(dim=-1) @ v

    ways = {True: lambda: nn.functional.scaled_dot_product_attention(q, k, v), False: written_out}
    seconds: dict[bool, list[float]] = {way: [] for way in ways}
    for _ in range(6):
        for way, attention in ways.items():
            started = time.perf_counter()
            with torch.autocast("cpu", HALF.get(precision), enabled=precision in HALF):
                output = attention()
            output.float().sum().backward()
            seconds[way].append(time.perf_counter() - started)
    return statistics.median(seconds[True][1:]) <= statistics.median(seconds[False][1:])


class MultiCropViT(VisionTransformer):
    """timm's network with the position embedding of local crops interpolated as in DINO's published program."""

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


def reference_loader(setting: Setting, images: SyntheticImages, transform: object) -> DataLoader:
    """Return torch's loader with its default collate."""
    dataset = TransformedImages(images, transform)
    if setting.processes > 1:
        dist.init_process_group("gloo")
    return DataLoader(
        dataset,
        sampler=DistributedSampler(dataset) if setting.processes > 1 else None,
        shuffle=setting.processes == 1,
        batch_size=setting.local_batch,
        num_workers=setting.local_workers,
        pin_memory=setting.device != "cpu",
        drop_last=True,
    )


def parameter_groups(network: nn.Module) -> list[dict[str, object]]:
    """Return a group of parameters with weight decay, and one without: biases and 1-D parameters."""
    trained = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    undecayed = [p for name, p in trained if name.endswith(".bias") or p.ndim == 1]
    decayed = [p for name, p in trained if not (name.endswith(".bias") or p.ndim == 1)]
    return [{"params": decayed}, {"params": undecayed, "weight_decay": 0.0}]


def cosine(start: float, end: float, steps: int) -> np.ndarray:
    """Return a half cosine from `start` to `end`, one value per step."""
    return end + 0.5 * (start - end) * (1 + np.cos(np.pi * np.arange(steps) / steps))


def double_loop(targets: Sequence[Tensor] | Tensor, scores: Sequence[Tensor] | Tensor) -> Tensor:
    """Return DINO's loss: the mean cross-entropy over the pairs of a teacher view and a different student view.

    Targets are probabilities (B, K) per view; scores (B, K) are already divided by the student temperature.
    """
    total, pairs = torch.zeros((), device=scores[0].device), 0
    for i, q in enumerate(targets):
        for j, other in enumerate(scores):
            if i != j:
                total = total + torch.sum(-q * torch.log_softmax(other, dim=-1), dim=-1).mean()
                pairs += 1
    return total / pairs


def clip_per_parameter(parameters: Iterable[nn.Parameter], norm: float) -> None:
    """Clip the gradient of each parameter separately."""
    for parameter in parameters:
        if parameter.grad is not None:
            factor = norm / (parameter.grad.norm() + 1e-6)
            if factor < 1:
                parameter.grad.mul_(factor)


@torch.no_grad()
def reference_update_ema(teacher: Iterable[nn.Parameter], student: Iterable[nn.Parameter], momentum: float) -> None:
    """Update the teacher as an EMA of the student, parameter by parameter."""
    for average, current in zip(teacher, student, strict=True):
        average.mul_(momentum).add_(current, alpha=1 - momentum)
