"""Checkpoint writing: DINO's state of the CIFAR-10 recipes, written with checksums and fsync, compared with torch.save."""

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
    fractions = []
    for recipe in ("pretrain_cpu", "pretrain"):
        rows += compare_writers(recipe, repeats)
        fractions.append(f"{recipe} {rows[-1].median_ms / 60_000:.2%}")
    return [Table("A checkpoint", "ms", rows, f"fraction of the time with one per minute: {', '.join(fractions)}")]


def compare_writers(recipe: str, repeats: int) -> list[Row]:
    """Measure writing a recipe's state by torch.save and by `Checkpoints`."""
    tensors = state(load(PretrainConfig, RECIPES / f"{recipe}.yaml"))
    megabytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / 1e6
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        checkpoints, steps = Checkpoints(Path(folder) / "checkpoints", keep=2), itertools.count()
        return compare(
            {
                f"{recipe}, {megabytes:.0f} MB: torch.save": lambda: torch.save(tensors, f"{folder}/reference.pt"),
                f"{recipe}, {megabytes:.0f} MB: ours": lambda: checkpoints.write(next(steps), tensors, {}),
            },
            repeats=repeats,
        )


def state(config: PretrainConfig) -> dict[str, torch.Tensor]:
    """Return the tensors that the loop saves: student, teacher, heads, center and the optimizer's moments after a step."""
    dino = build_dino(config)
    optimizer = build_optimizer(config.optim, torch.nn.ModuleList([dino.student, dino.student_head]))
    for parameter in dino.student_parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return module_state("dino", dino) | optimizer_state(optimizer)
