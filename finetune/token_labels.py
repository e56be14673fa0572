"""Token labeling: every token of VOLO is trained on its own soft label, in addition to the class token (Jiang et al. 2021).

With MixToken, images 2k and 2k + 1 exchange a box of tokens after the stem, so no token mixes pixels of two images; the network
exchanges the token logits within the box back (`Volo.forward`), so that they are compared with the image's own token labels.
Shapes: B samples of this process, S pixels, C channels or classes, N tokens.
"""

import torch
from torch import Tensor, nn

from common.data.augment.mixing import check_pairs, smooth_targets, swap_neighbors
from common.data.augment.supervised import build_supervised_transform
from common.data.loading.loader import Batch, BatchTransform
from common.data.splits.roles import Splits
from common.data.token_labels.reader import open_token_labels
from common.data.token_labels.targets import token_targets
from common.errors import UserError
from common.models.volo import Volo
from common.rng import generator
from finetune.classification import Classification
from finetune.config import MIX_TOKEN, FinetuneConfig

Box = tuple[int, int, int, int]
"""(top, left, bottom, right) in tokens, the last two exclusive."""


class TokenLabels(Classification):
    """Objective of token labeling: classification of the class token and of every patch token."""

    def __init__(self, config: FinetuneConfig, splits: Splits) -> None:
        super().__init__(config, splits)
        self.section, self.num_classes = config.token_labels, len(splits.class_names)
        self.token_grid: tuple[int, int] | None = None
        if self.section.labels is not None:
            self.token_labels = open_token_labels(
                self.section.labels, splits.subset, num_classes=len(splits.class_names)
            )

    def build_network(self) -> nn.Module:
        """Build the network with both classifiers and load `init`; raise UserError for networks without a token classifier."""
        network = super().build_network()
        if not isinstance(network, Volo):
            raise UserError(
                f"model.name = {self.config.model.name}: has no token classifier, which objective = token_labels requires. Set a"
                " VOLO (volo_d1, volo_mini), or objective=classification."
            )
        self.token_grid = network.token_grid
        return network

    def build_transform(self) -> BatchTransform:
        """Return the recipe's transform: random crop, flip and policy; with token labels, it also returns each crop's geometry."""
        config = self.config
        mean, _ = config.data.statistics()
        return build_supervised_transform(
            config.augment,
            config.data.image_size,
            config.train.seed,
            mean=mean,
            with_geometry=self.token_labels is not None,
        )

    def inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return erased images (B, C, S, S), class targets (B, C), token targets (B, N, C) and the box (B, 4), int64.

        All rows of the box are equal, so that every micro-batch (`train.micro_batch_size`) contains it. Without MixToken they are
        empty, (B, 0).
        """
        assert batch.labels is not None and self.token_grid is not None, "call build_network first"
        targets = smooth_targets(batch.labels, self.num_classes, self.config.augment.label_smoothing)
        rows, columns = self.token_grid
        if batch.token_labels is None:
            per_token = targets[:, None].expand(-1, rows * columns, -1)
        else:
            smoothing = self.config.augment.label_smoothing
            per_token = token_targets(batch.token_labels, self.token_grid, self.num_classes)
            per_token = (1 - smoothing) * per_token + smoothing / self.num_classes
        if self.section.class_target == "dense":
            targets = per_token.mean(1)
        box = self._box(len(targets), epoch=epoch, step=step)
        if box:
            own_fraction = 1 - (box[2] - box[0]) * (box[3] - box[1]) / (rows * columns)
            targets = torch.lerp(swap_neighbors(targets), targets, own_fraction) if own_fraction < 1 else targets
        box_B4 = torch.tensor(box or (), dtype=torch.int64).repeat(len(targets), 1)
        return self.images(batch), targets, per_token, box_B4.to(targets.device, non_blocking=True)

    def loss(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return class_weight * cross-entropy of the class token + weight * mean cross-entropy of the tokens."""
        images, targets, per_token, box_B4 = inputs
        class_logits, token_logits = model(images, box_B4[0])
        class_loss, token_loss = self.cross_entropy(class_logits, targets), self.cross_entropy(token_logits, per_token)
        return self.section.class_weight * class_loss + self.section.weight * token_loss

    def chance(self) -> float | None:
        """Return the loss of the best constant prediction, assuming that token labels have the image labels' class frequencies."""
        chance = super().chance()
        return None if chance is None else (self.section.class_weight + self.section.weight) * chance

    def check_pairs(self, images: int) -> None:
        """Raise UserError if a process gets so many images that MixToken leaves one of them without a partner."""
        if self.section.mix_token:
            check_pairs(images, *MIX_TOKEN)

    def _box(self, count: int, *, epoch: int, step: int) -> Box | None:
        """Return the box of a step, the same on every process; None without MixToken."""
        if not self.section.mix_token:
            return None
        self.check_pairs(count)
        assert self.token_grid is not None
        return draw_box(self.token_grid, self.section.mix_token, self.config.train.seed, epoch=epoch, step=step)


def draw_box(grid: tuple[int, int], beta: float, seed: int, *, epoch: int, step: int) -> Box:
    """Return MixToken's box of a step, a function of (seed, epoch, step).

    Its area is at most a fraction 1 - lambda of the grid (rows, columns), lambda ~ Beta(beta, beta): its sides are even numbers of
    tokens, as in VOLO's code. Its center is uniform over the tokens, and the box is clipped at the border, as in CutMix.
    """
    rng = generator(seed, epoch=epoch, index=step, stream="mixtoken")
    side = (1 - rng.beta(beta, beta)) ** 0.5
    (top, bottom), (left, right) = (_interval(rng.random(), int(tokens * side), tokens) for tokens in grid)
    return top, left, bottom, right


def _interval(uniform: float, length: int, tokens: int) -> tuple[int, int]:
    """Return (start, stop) of an interval of `length` tokens around token int(uniform * tokens), clipped to [0, tokens).

    `uniform` lies in [0, 1). An odd `length` is rounded down to an even one.
    """
    center, half = int(uniform * tokens), length // 2
    return max(center - half, 0), min(center + half, tokens)
