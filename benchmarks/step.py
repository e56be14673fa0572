"""DINO's step on the CPU: loss, clipping and the teacher's EMA, each compared with a reference loop, and the complete step."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.reference_parts import clip_per_parameter, double_loop, reference_update_ema
from benchmarks.timing import Table, compare, copy_rate, matmul_rate
from common.models.networks import ModelConfig, build_network
from common.training.ema import update_ema
from common.training.optimizers import clip_gradients
from common.training.precision import disable_fused_attention
from pretrain.head import DINOHead
from pretrain.loss import DINOLoss
from pretrain.method import DINO

OUT_DIM, IMAGES, TEMPERATURE = 4096, 32, torch.tensor(0.04)


def reference_loss(student: Tensor, teacher: Tensor, center: Tensor) -> Tensor:
    """Return DINO's loss for scores (V, B, K) and (2, B, K), as in its paper."""
    targets = [torch.softmax((view - center) / TEMPERATURE, dim=-1) for view in teacher]
    return double_loop(targets, [view / 0.1 for view in student])


def reference_step(dino: DINO, views: list[Tensor], optimizer: torch.optim.Optimizer, center: Tensor) -> None:
    """Take one step with explicit Python loops and one forward pass per view."""
    flat = [view for block in views for view in block]
    with torch.no_grad():
        teacher = torch.stack([dino.teacher_head(dino.teacher(view)) for view in flat[:2]])
    student = torch.stack([dino.student_head(dino.student(view)) for view in flat])
    optimizer.zero_grad()
    reference_loss(student, teacher, center).backward()
    clip_per_parameter(dino.student_parameters(), 3.0)
    optimizer.step()
    with torch.no_grad():
        center.mul_(0.9).add_(teacher.mean((0, 1)), alpha=0.1)
    teacher_parameters = (*dino.teacher.parameters(), *dino.teacher_head.parameters())
    student_parameters = (*dino.student.parameters(), *dino.student_head.parameters())
    reference_update_ema(teacher_parameters, student_parameters, 0.99)


def our_step(dino: DINO, views: list[Tensor], optimizer: torch.optim.Optimizer, *, bf16: bool) -> None:
    """Take one step as `pretrain.train` does."""
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = dino(views, dino.teacher_targets(views[0], TEMPERATURE)).loss
    loss.backward()
    clip_gradients(dino.student_parameters(), 3.0, per_parameter=True)
    optimizer.step()
    dino.update_teacher(0.99)


def build() -> tuple[DINO, torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return DINO over a network for 32 px images, with an unfused and a fused AdamW."""
    torch.manual_seed(0)
    config = ModelConfig(name="vit_micro", drop_path=0.0)
    student = build_network(config, image_size=32, num_classes=0, multi_crop=True)
    head = DINOHead(student.num_features, OUT_DIM, hidden_dim=1024)
    dino = DINO(student, copy.deepcopy(student), head, DINOLoss(OUT_DIM))
    parameters: list[nn.Parameter] = dino.student_parameters()
    return dino, torch.optim.AdamW(parameters, foreach=False), torch.optim.AdamW(parameters, fused=True)


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    dino, unfused, fused = build()
    dino_bf16, _, fused_bf16 = build()
    for network in (dino_bf16.student, dino_bf16.teacher):
        disable_fused_attention(network)  # as in our trainer in bf16 on a CPU
    views = [torch.randn(2, IMAGES, 3, 32, 32), torch.randn(4, IMAGES, 3, 16, 16)]
    center = torch.zeros(OUT_DIM)
    rows = compare(
        {
            "reference: a forward pass per view, double loop": lambda: reference_step(dino, views, unfused, center),
            "ours, fp32": lambda: our_step(dino, views, fused, bf16=False),
            "ours, bf16": lambda: our_step(dino_bf16, views, fused_bf16, bf16=True),
        },
        repeats=repeats,
        per=IMAGES,
    )
    limit = f"products run at {matmul_rate():.0f} GFLOP/s in fp32, {matmul_rate(dtype=torch.bfloat16):.0f} in bf16"
    title = f"DINO's step, vit_micro, 2x32 + 4x16, out_dim {OUT_DIM}, {IMAGES} images"
    average = compare(
        {
            "reference: a loop over the parameters": lambda: reference_update_ema(
                dino.teacher.parameters(), dino.student.parameters(), 0.99
            ),
            "ours": lambda: update_ema(list(dino.teacher.parameters()), list(dino.student.parameters()), 0.99),
        },
        repeats=repeats,
    )
    return [
        Table(title, "ms per image", rows, limit),
        *(compare_losses(out_dim, repeats) for out_dim in (4096, 65536)),
        Table("EMA of the teacher, vit_micro", "ms", average, f"a copy runs at {copy_rate(256):.0f} GB/s"),
    ]


def compare_losses(out_dim: int, repeats: int) -> Table:
    """Time the loss of ten views from the bottleneck on, forward and backward."""
    bottleneck = normalize(torch.randn(10, IMAGES, 256), dim=-1).requires_grad_()
    weight = normalize(torch.randn(out_dim, 256), dim=-1).requires_grad_()
    teacher, center, loss = torch.randn(2, IMAGES, out_dim), torch.zeros(out_dim), DINOLoss(out_dim)

    def ours(*, bf16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(bottleneck, weight, loss.teacher_targets(teacher, TEMPERATURE)).loss
        value.backward()

    rows = compare(
        {
            "reference: all scores, double loop": lambda: reference_loss(
                bottleneck @ weight.T, teacher, center
            ).backward(),
            "ours, fp32": lambda: ours(bf16=False),
            "ours, bf16": lambda: ours(bf16=True),
        },
        repeats=repeats,
        per=IMAGES,
    )
    limit = f"products run at {matmul_rate():.0f} GFLOP/s in fp32, {matmul_rate(dtype=torch.bfloat16):.0f} in bf16"
    return Table(f"DINO's loss from the bottleneck on, 10 views, out_dim {out_dim}", "ms per image", rows, limit)
