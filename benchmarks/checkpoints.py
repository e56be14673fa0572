"""What a checkpoint costs: DINO's state of the CIFAR-10 recipes, written with checksums and flushes, against a bare torch.save."""

import itertools
import tempfile
from pathlib import Path

import torch

from benchmarks.timing import Row, Table, compare
from common.config import load
from common.training.checkpoints import Checkpoints
from common.training.optimizers import build_optimizer
from common.training.state import module_state, optimizer_state
from pretrain.build import build_dino
from pretrain.config import PretrainConfig

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "cifar10"


def run(repeats: int) -> list[Table]:
    """Return the benchmark's tables."""
    rows: list[Row] = []
    shares = []
    for recipe in ("pretrain_cpu", "pretrain"):
        rows += write_twice(recipe, repeats)
        shares.append(f"{recipe} {rows[-1].median_ms / 60_000:.2%}")
    return [
        Table("A checkpoint", "ms", rows, f"share of the time when one is written every minute: {', '.join(shares)}")
    ]


def write_twice(recipe: str, repeats: int) -> list[Row]:
    """Write a recipe's state the bare way and ours."""
    tensors = state(load(PretrainConfig, RECIPES / f"{recipe}.yaml"))
    megabytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / 1e6
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        checkpoints, steps = Checkpoints(Path(folder) / "checkpoints", keep=2), itertools.count()
        return compare(
            {
                f"{recipe}, {megabytes:.0f} MB: torch.save in place": lambda: torch.save(tensors, f"{folder}/bare.pt"),
                f"{recipe}, {megabytes:.0f} MB: ours": lambda: checkpoints.write(next(steps), tensors, {}),
            },
            repeats=repeats,
        )


def state(config: PretrainConfig) -> dict[str, torch.Tensor]:
    """Return what the loop saves: student, teacher, heads, centre and the moments after a step."""
    dino = build_dino(config)
    optimizer = build_optimizer(config.optim, torch.nn.ModuleList([dino.student, dino.student_head]))
    for parameter in dino.student_parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return module_state("dino", dino) | optimizer_state(optimizer)
