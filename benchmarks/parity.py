"""Does speed cost accuracy? Complete trainings of CIFAR-10 recipes, with the reference and the fast implementation, by seed.

`python -m benchmarks.parity pretrain reference <folder>/pretrain-reference-0 data.source=<CIFAR-10> train.seed=0 ...`, then with
`fast`, then the other seeds; `finetune` likewise. Each run writes a run folder; `... table <folder>` compares them.

Reference: PIL and torchvision (timm's RandAugment) image by image, fp32, one forward pass per view, the loss as a double loop over
the views, a Python loop over the parameters for clipping and for the teacher's EMA, torch's default AdamW. Fast: our unmodified
trainer, bf16, compiled. Schedules, initial weights, evaluation and the images of each batch are the same code for both.
"""

import argparse
import json
import logging
import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import one_hot

from benchmarks.reference_parts import clip_per_parameter, double_loop, reference_update_ema
from benchmarks.reference_views import ReferenceViews, reference_transform
from common import config as recipes
from common.data.loading.loader import Batch
from common.data.open_splits import open_splits
from common.errors import UserError
from common.training.optimizers import set_step
from common.training.run import Run, start_run
from finetune.config import FinetuneConfig
from finetune.train import Finetuning
from pretrain.config import PretrainConfig
from pretrain.loss import LossParts
from pretrain.train import Pretraining

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "cifar10"
FAST = ["train.precision=bf16", "train.compile=true"]
POLICY = ["augment.auto_augment=rand-m9-mstd0.5-inc1", "augment.random_erasing_prob=0.25"]
"""The supervised recipe for CPUs has no augmentation policy; here both implementations of one are also compared."""


class ReferenceBatches:
    """Views by PIL, in the batches and order of our sampler, with draws from Python's and torch's global generators."""

    def __init__(self, batches: Any, split: Any, transform: Any) -> None:
        self.batches, self.split, self.transform = batches, split, transform

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.batches:
            views = [self.transform(self.image(key.index)) for key in keys]
            blocks = [torch.stack(same, dim=1) for same in _stacked(views)]
            indices = torch.tensor([key.index for key in keys])
            labels = torch.as_tensor(self.split.labels)[indices]
            yield Batch(blocks, [], None, labels, indices)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.split.image(index))


def _stacked(views: list[list[Tensor]]) -> list[list[Tensor]]:
    """Return for each resolution the images' views (V, 3, S, S)."""
    sizes = sorted({view.shape[-1] for view in views[0]}, reverse=True)
    return [
        [torch.stack([view for view in image_views if view.shape[-1] == size]) for image_views in views]
        for size in sizes
    ]


class ReferencePretraining(Pretraining):
    """DINO with explicit Python loops instead of batched operations."""

    def __init__(self, config: PretrainConfig, run: Run, splits: Any) -> None:
        super().__init__(config, run, splits)
        random.seed(config.train.seed)
        transform = ReferenceViews(config.crops, mean=config.data.mean, std=config.data.std)
        self.loop.loader = ReferenceBatches(self.loop.batches, splits.train, transform)
        groups = [{**group, "fused": None, "foreach": False} for group in self.optimizer.param_groups]
        self.optimizer = self.loop.state.optimizer = torch.optim.AdamW(groups)

    def _views(self, batch: Batch) -> list[Tensor]:
        return batch.views

    def _train_step(self, views: list[Tensor], step: int) -> tuple[LossParts, Tensor]:
        set_step(self.optimizer, self.schedules["learning rate"][step], self.schedules["weight decay"][step])
        dino, flat = self.dino, [view for block in views for view in block]
        with torch.no_grad():
            teacher = torch.stack([dino.teacher_head(dino.teacher(view)) for view in views[0]])
            targets = reference_sinkhorn(teacher / self.temperature[step])
        student = [dino.student_head(dino.student(view)) / 0.1 for view in flat]
        loss = double_loop(targets, student)
        self.optimizer.zero_grad()
        loss.backward()
        trained = torch.nn.ModuleList([dino.student, dino.student_head])
        clip_per_parameter(trained.parameters(), self.config.optim.clip_grad)
        if step < self.config.dino.freeze_last_layer_epochs * self.steps_per_epoch:
            dino.freeze_last_layer()
        self.optimizer.step()
        teacher_parts = torch.nn.ModuleList([dino.teacher, dino.teacher_head])
        reference_update_ema(
            teacher_parts.parameters(), trained.parameters(), float(self.schedules["teacher momentum"][step])
        )
        entropy = -(targets * targets.clamp_min(1e-30).log()).sum(-1).mean()
        mean, loss = targets.mean((0, 1)), loss.detach()
        prototype_entropy = -(mean * mean.clamp_min(1e-30).log()).sum()
        return LossParts(loss, entropy, loss - entropy, prototype_entropy), torch.zeros(())


def reference_sinkhorn(logits: Tensor) -> Tensor:
    """Return Sinkhorn-Knopp targets (SwAV) for (G, B, K) logits, by explicit divisions."""
    targets = logits.flatten(0, 1).exp()
    for _ in range(3):
        targets = targets / targets.sum(0, keepdim=True)
        targets = targets / targets.sum(1, keepdim=True)
    return targets.view_as(logits)


class ReferenceFinetuning(Finetuning):
    """Supervised training with timm's transform and a simple step."""

    def __init__(self, config: FinetuneConfig, run: Run, splits: Any) -> None:
        super().__init__(config, run, splits)
        random.seed(config.train.seed)
        np.random.seed(config.train.seed)
        transform = reference_transform(config.data.image_size, mean=config.data.mean, std=config.data.std)
        self.loop.loader = ReferenceBatches(self.loop.batches, splits.train, lambda image: [transform(image)])
        groups = [{**group, "fused": None, "foreach": False} for group in self.optimizer.param_groups]
        self.optimizer = self.loop.state.optimizer = torch.optim.AdamW(groups)
        self.objective.inputs = self._inputs

    def _inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        smoothing, classes = self.config.augment.label_smoothing, len(self.splits.class_names)
        return batch.views[0][0], one_hot(batch.labels, classes) * (1 - smoothing) + smoothing / classes

    def _train_step(self, inputs: tuple[Tensor, ...], step: int) -> tuple[Tensor, Tensor]:
        set_step(self.optimizer, self.schedules["learning rate"][step], self.schedules["weight decay"][step])
        images, targets = inputs
        loss = -(targets * torch.log_softmax(self.network(images), dim=-1)).sum(-1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach(), torch.zeros(())


STAGES: dict[str, tuple[Any, Any, Any]] = {
    "pretrain": (PretrainConfig, Pretraining, ReferencePretraining),
    "finetune": (FinetuneConfig, Finetuning, ReferenceFinetuning),
}


def train(stage: str, implementation: str, folder: Path, overrides: list[str]) -> int:
    """Train one run; return its exit code."""
    config_class, fast, reference = STAGES[stage]
    is_fast = implementation == "fast"
    words = [*(POLICY if stage == "finetune" else []), *(FAST if is_fast else []), *overrides]
    config = recipes.load(config_class, RECIPES / f"{stage}_cpu.yaml", [*words, f"out={folder}"])
    run = start_run(config, stage=stage, precision=config.train.precision, overrides=words)
    splits = open_splits(config.data, labeled=stage == "finetune")
    return (fast if is_fast else reference)(run.config, run, splits).train()


def show(folder: Path) -> None:
    """Print the metrics of the runs below a folder, named <stage>-<implementation>-<seed>."""
    results: dict[tuple[str, str, str], list[float]] = {}
    for path in sorted(folder.glob("*/result.json")):
        stage, implementation, _ = path.parent.name.split("-")
        result = json.loads(path.read_text())
        metrics = ("knn_top1", "loss") if stage == "pretrain" else ("test_top1", "validation_top1")
        for name in metrics:
            results.setdefault((stage, name, implementation), []).append(result["metrics"][name])
        results.setdefault((stage, "seconds", implementation), []).append(result["seconds"])
    for (stage, name, implementation), values in results.items():
        each = ", ".join(f"{value:.2f}" for value in values)
        print(f"{stage:9} {name:16} {implementation:9} mean {statistics.mean(values):8.2f}   ({each})")


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for stage in STAGES:
        action = actions.add_parser(stage)
        action.add_argument("implementation", choices=("reference", "fast"))
        action.add_argument("folder", type=Path, help="run folder, named <stage>-<implementation>-<seed>")
        action.add_argument("overrides", nargs="*", metavar="key=value")
    actions.add_parser("table").add_argument("folder", type=Path, help="parent of the run folders")
    options = parser.parse_args()
    if options.action == "table":
        show(options.folder)
        return 0
    try:
        return train(options.action, options.implementation, options.folder, options.overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())
