"""DINO's step on the CPU: the loss, the clipping and the teacher's average, each against its plain loop, and all together."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from benchmarks.plain_parts import clip_each, double_loop, follow
from benchmarks.timing import Table, compare, copy_rate, matrix_rate
from common.models.networks import ModelConfig, build_network
from common.training.ema import update_average
from common.training.optimizers import clip_gradients
from common.training.precision import use_plain_attention
from pretrain.head import DINOHead
from pretrain.loss import DINOLoss
from pretrain.method import DINO

OUTPUTS, IMAGES, TEMPERATURE = 4096, 32, torch.tensor(0.04)


def plain_loss(student: Tensor, teacher: Tensor, center: Tensor) -> Tensor:
    """Return DINO's loss of scores (V, B, K) and (2, B, K), as its paper writes it."""
    targets = [torch.softmax((view - center) / TEMPERATURE, dim=-1) for view in teacher]
    return double_loop(targets, [view / 0.1 for view in student])


def plain_step(dino: DINO, views: list[Tensor], optimizer: torch.optim.Optimizer, center: Tensor) -> None:
    """One step with a Python loop wherever there could be one, and one forward for each view."""
    flat = [view for block in views for view in block]
    with torch.no_grad():
        teacher = torch.stack([dino.teacher_head(dino.teacher(view)) for view in flat[:2]])
    student = torch.stack([dino.student_head(dino.student(view)) for view in flat])
    optimizer.zero_grad()
    plain_loss(student, teacher, center).backward()
    clip_each(dino.student_parameters(), 3.0)
    optimizer.step()
    with torch.no_grad():
        center.mul_(0.9).add_(teacher.mean((0, 1)), alpha=0.1)
    followers = (*dino.teacher.parameters(), *dino.teacher_head.parameters())
    leaders = (*dino.student.parameters(), *dino.student_head.parameters())
    follow(followers, leaders, 0.99)


def our_step(dino: DINO, views: list[Tensor], optimizer: torch.optim.Optimizer, *, bf16: bool) -> None:
    """One step as `pretrain.train` takes it."""
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = dino(views, dino.teach(views[0], TEMPERATURE)).loss
    loss.backward()
    clip_gradients(dino.student_parameters(), 3.0, each=True)
    optimizer.step()
    dino.update_teacher(0.99)


def build() -> tuple[DINO, torch.optim.Optimizer, torch.optim.Optimizer]:
    """Return DINO over a network for 32 px images, with a plain and a fused AdamW over it."""
    torch.manual_seed(0)
    config = ModelConfig(name="vit_micro", drop_path=0.0)
    student = build_network(config, image_size=32, num_classes=0, multi_crop=True)
    head = DINOHead(student.num_features, OUTPUTS, hidden_dim=1024)
    dino = DINO(student, copy.deepcopy(student), head, DINOLoss(OUTPUTS))
    parameters: list[nn.Parameter] = dino.student_parameters()
    return dino, torch.optim.AdamW(parameters, foreach=False), torch.optim.AdamW(parameters, fused=True)


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    dino, plain, fused = build()
    in_bf16, _, its_own = build()
    for network in (in_bf16.student, in_bf16.teacher):
        use_plain_attention(network)  # as the trainer has it in bf16 on a CPU
    views = [torch.randn(2, IMAGES, 3, 32, 32), torch.randn(4, IMAGES, 3, 16, 16)]
    center = torch.zeros(OUTPUTS)
    rows = compare(
        {
            "plain: a forward for each view, double loop": lambda: plain_step(dino, views, plain, center),
            "ours, fp32": lambda: our_step(dino, views, fused, bf16=False),
            "ours, bf16": lambda: our_step(in_bf16, views, its_own, bf16=True),
        },
        repeats=repeats,
        per=IMAGES,
    )
    limit = f"products run at {matrix_rate():.0f} GFLOP/s in fp32, {matrix_rate(dtype=torch.bfloat16):.0f} in bf16"
    title = f"DINO's step, vit_micro, 2x32 + 4x16, {OUTPUTS} outputs, {IMAGES} images"
    average = compare(
        {
            "plain: a loop over the parameters": lambda: follow(
                dino.teacher.parameters(), dino.student.parameters(), 0.99
            ),
            "ours": lambda: update_average(list(dino.teacher.parameters()), list(dino.student.parameters()), 0.99),
        },
        repeats=repeats,
    )
    return [
        Table(title, "ms an image", rows, limit),
        *(compare_losses(outputs, repeats) for outputs in (4096, 65536)),
        Table("The teacher's average, vit_micro", "ms", average, f"a copy moves {copy_rate(256):.0f} GB/s"),
    ]


def compare_losses(outputs: int, repeats: int) -> Table:
    """Return the loss of ten views, from the bottleneck on, with its backward pass."""
    bottleneck = normalize(torch.randn(10, IMAGES, 256), dim=-1).requires_grad_()
    weight = normalize(torch.randn(outputs, 256), dim=-1).requires_grad_()
    teacher, center, loss = torch.randn(2, IMAGES, outputs), torch.zeros(outputs), DINOLoss(outputs)

    def ours(*, bf16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = loss(bottleneck, weight, loss.codes(teacher, TEMPERATURE)).loss
        found.backward()

    rows = compare(
        {
            "plain: all scores, double loop": lambda: plain_loss(bottleneck @ weight.T, teacher, center).backward(),
            "ours, fp32": lambda: ours(bf16=False),
            "ours, bf16": lambda: ours(bf16=True),
        },
        repeats=repeats,
        per=IMAGES,
    )
    limit = f"products run at {matrix_rate():.0f} GFLOP/s in fp32, {matrix_rate(dtype=torch.bfloat16):.0f} in bf16"
    return Table(f"DINO's loss from the bottleneck on, 10 views, {outputs} outputs", "ms an image", rows, limit)
