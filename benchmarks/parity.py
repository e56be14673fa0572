"""Is accuracy paid for speed? Whole trainings of CIFAR-10 recipes, the plain way and the fast way, seed by seed.

`python -m benchmarks.parity pretrain plain <folder>/pretrain-plain-0 data.source=<CIFAR-10> train.seed=0 ...`, then with
`fast`, then the other seeds; `finetune` likewise. Each run leaves a run folder; `... table <folder>` prints them side by side.

Plain: PIL and torchvision (timm's RandAugment) image by image, fp32, one forward for each view, the loss as a double loop over
the views, a Python loop over the parameters for clipping and for the teacher, AdamW as torch has it. Fast: the trainer as it
is, bf16, compiled. Schedules, initial weights, evaluation and the images of each batch are the same code for both.
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

from benchmarks.plain_parts import clip_each, double_loop, follow
from benchmarks.plain_views import PlainViews, plain_supervised
from common import config as recipes
from common.data.loading.loader import Batch
from common.data.open_splits import open_splits
from common.errors import UserError
from common.training.optimizers import set_step
from common.training.run import Run
from finetune.config import FinetuneConfig
from finetune.train import Finetuning
from pretrain.config import PretrainConfig
from pretrain.loss import LossParts
from pretrain.train import Pretraining

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "cifar10"
FAST = ["train.precision=bf16", "train.compile=true"]
POLICY = ["augment.auto_augment=rand-m9-mstd0.5-inc1", "augment.erasing=0.25"]
"""The supervised recipe for a CPU has no policy; here its two ways of computing one are compared as well."""


class PlainBatches:
    """Views by PIL, in the order and the batches of our sampler; each draw from Python's and torch's global generators."""

    def __init__(self, batches: Any, split: Any, view: Any) -> None:
        self.batches, self.split, self.view = batches, split, view

    def __iter__(self) -> Iterator[Batch]:
        for keys in self.batches:
            views = [self.view(self.picture(key.index)) for key in keys]
            blocks = [torch.stack(same, dim=1) for same in _stacked(views)]
            indices = torch.tensor([key.index for key in keys])
            labels = torch.as_tensor(self.split.labels)[indices]
            yield Batch(blocks, [], None, labels, indices)

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(self.split.image(index).permute(1, 2, 0).numpy()))


def _stacked(views: list[list[Tensor]]) -> list[list[Tensor]]:
    """Return for each resolution the images' (V, 3, S, S) views."""
    sizes = sorted({view.shape[-1] for view in views[0]}, reverse=True)
    return [[torch.stack([view for view in own if view.shape[-1] == size]) for own in views] for size in sizes]


class PlainPretraining(Pretraining):
    """DINO with a plain loop wherever there could be one."""

    def __init__(self, config: PretrainConfig, run: Run, splits: Any) -> None:
        super().__init__(config, run, splits)
        random.seed(config.train.seed)
        view = PlainViews(config.views, mean=config.data.mean, std=config.data.std)
        self.loader = PlainBatches(self.batches, splits.train, view)
        groups = [{**group, "fused": None, "foreach": False} for group in self.optimizer.param_groups]
        self.optimizer = self.state.optimizer = torch.optim.AdamW(groups)

    def _views(self, batch: Batch) -> list[Tensor]:
        return batch.views

    def _train_step(self, views: list[Tensor], step: int) -> tuple[LossParts, Tensor]:
        set_step(self.optimizer, self.schedules["learning rate"][step], self.schedules["weight decay"][step])
        dino, flat = self.dino, [view for block in views for view in block]
        with torch.no_grad():
            teacher = torch.stack([dino.teacher_head(dino.teacher(view)) for view in views[0]])
            targets = plain_sinkhorn(teacher / self.temperature[step])
        student = [dino.student_head(dino.student(view)) / 0.1 for view in flat]
        loss = double_loop(targets, student)
        self.optimizer.zero_grad()
        loss.backward()
        trained = torch.nn.ModuleList([dino.student, dino.student_head])
        clip_each(trained.parameters(), self.config.optim.clip_norm)
        if step < self.config.dino.freeze_last_layer_epochs * self.steps_per_epoch:
            dino.freeze_last_layer()
        self.optimizer.step()
        followers = torch.nn.ModuleList([dino.teacher, dino.teacher_head])
        follow(followers.parameters(), trained.parameters(), float(self.schedules["teacher momentum"][step]))
        entropy = -(targets * targets.clamp_min(1e-30).log()).sum(-1).mean()
        mean, loss = targets.mean((0, 1)), loss.detach()
        of_mean = -(mean * mean.clamp_min(1e-30).log()).sum()
        return LossParts(loss, entropy, loss - entropy, of_mean), torch.zeros(())


def plain_sinkhorn(logits: Tensor) -> Tensor:
    """Return SwAV's balanced codes of (G, B, K) logits, by plain divisions."""
    codes = logits.flatten(0, 1).exp()
    for _ in range(3):
        codes = codes / codes.sum(0, keepdim=True)
        codes = codes / codes.sum(1, keepdim=True)
    return codes.view_as(logits)


class PlainFinetuning(Finetuning):
    """Supervised training with timm's transform and a plain step."""

    def __init__(self, config: FinetuneConfig, run: Run, splits: Any) -> None:
        super().__init__(config, run, splits)
        random.seed(config.train.seed)
        np.random.seed(config.train.seed)
        view = plain_supervised(config.data.image_size, mean=config.data.mean, std=config.data.std)
        self.loader = PlainBatches(self.batches, splits.train, lambda picture: [view(picture)])
        groups = [{**group, "fused": None, "foreach": False} for group in self.optimizer.param_groups]
        self.optimizer = self.state.optimizer = torch.optim.AdamW(groups)
        self.objective.inputs = self._inputs

    def _inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        smoothing, classes = self.config.augment.smoothing, len(self.splits.class_names)
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
    "pretrain": (PretrainConfig, Pretraining, PlainPretraining),
    "finetune": (FinetuneConfig, Finetuning, PlainFinetuning),
}


def train(stage: str, way: str, folder: Path, overrides: list[str]) -> int:
    """Train one run; return its exit code."""
    config_class, fast, plain = STAGES[stage]
    words = [*(POLICY if stage == "finetune" else []), *(FAST if way == "fast" else []), *overrides]
    config = recipes.load(config_class, RECIPES / f"{stage}_cpu.yaml", [*words, f"out={folder}"])
    run = Run(config, config.train, stage=stage, out=config.out, overrides=words)
    splits = open_splits(config.data, labelled=stage == "finetune")
    return (fast if way == "fast" else plain)(config, run, splits).run_to_end()


def show(folder: Path) -> None:
    """Print the runs below a folder, named <stage>-<way>-<seed>: metric by metric, plain beside fast."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for path in sorted(folder.glob("*/result.json")):
        stage, way, _ = path.parent.name.split("-")
        result = json.loads(path.read_text())
        wanted = ("knn_top1", "loss") if stage == "pretrain" else ("test_top1", "validation_top1")
        for name in wanted:
            found.setdefault((stage, name, way), []).append(result["metrics"][name])
        found.setdefault((stage, "seconds", way), []).append(result["seconds"])
    for (stage, name, way), values in found.items():
        each = ", ".join(f"{value:.2f}" for value in values)
        print(f"{stage:9} {name:16} {way:6} mean {statistics.mean(values):8.2f}   ({each})")


def main() -> int:
    """Train or print as the command line says; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    for stage in STAGES:
        action = actions.add_parser(stage)
        action.add_argument("way", choices=("plain", "fast"))
        action.add_argument("folder", type=Path, help="<stage>-<way>-<seed>, the run's folder")
        action.add_argument("overrides", nargs="*", metavar="key=value")
    actions.add_parser("table").add_argument("folder", type=Path, help="where the runs' folders lie")
    options = parser.parse_args()
    if options.action == "table":
        show(options.folder)
        return 0
    try:
        return train(options.action, options.way, options.folder, options.overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.exit(main())
