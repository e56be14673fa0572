"""Owns token labelling: every token of VOLO learns its own soft label, beside the class token (Jiang et al. 2021).

With MixToken, images 2k and 2k + 1 exchange a box of tokens behind the stem, so no token mixes two images' pixels; the network
exchanges the dense logits within it back (`Volo.forward`), so that they are compared with the image's own dense labels.
Shapes: B samples of this process, S pixels, C classes, N tokens.
"""

import torch
from torch import Tensor, nn

from common.data.augment.mixing import smooth_targets, swap_neighbours
from common.data.augment.supervised import build_supervised_view
from common.data.loading.loader import Batch, View
from common.data.splits.roles import Splits
from common.data.token_labels.files import open_dense_labels
from common.data.token_labels.targets import dense_targets
from common.errors import UserError
from common.models.volo import Box, Volo
from common.rng import generator
from finetune.classification import Classification, soft_cross_entropy
from finetune.config import FinetuneConfig

NO_BOX: Box = (0, 0, 0, 0)


class TokenLabels(Classification):
    """Tell classes apart, by the class token and by every other token."""

    def __init__(self, config: FinetuneConfig, splits: Splits) -> None:
        super().__init__(config, splits)
        self.section, self.num_classes = config.token_labels, len(splits.class_names)
        self.token_grid: tuple[int, int] | None = None
        if self.section.labels is not None:
            self.dense_labels = open_dense_labels(
                self.section.labels, splits.subset, num_classes=len(splits.class_names)
            )

    def build_network(self) -> nn.Module:
        """Return the network with both classifiers, started from `init`; refuse one that classifies no tokens."""
        network = super().build_network()
        if not isinstance(network, Volo):
            raise UserError(
                f"model.name = {self.config.model.name}: classifies no single tokens, and objective = token_labels needs that;"
                " choose a VOLO (volo_d1, volo_mini), or objective=classification"
            )
        self.token_grid = network.token_grid
        return network

    def build_view(self) -> View:
        """Return the random crop, flip and policy of the recipe; with dense labels it tells where a view lies in its image."""
        config = self.config
        return build_supervised_view(
            config.augment,
            config.data.image_size,
            config.train.seed,
            mean=config.data.mean,
            with_geometry=self.dense_labels is not None,
        )

    def inputs(self, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, ...]:
        """Return erased images (B, 3, S, S), class targets (B, C), dense targets (B, N, C) and, on the CPU, the box (B, 4).

        All rows of the box are the same: with `train.micro_batch` each part brings it along.
        """
        assert batch.labels is not None and self.token_grid is not None, "build_network comes first"
        targets = smooth_targets(batch.labels, self.num_classes, self.config.augment.smoothing)
        rows, columns = self.token_grid
        if batch.dense is None:
            dense = targets[:, None].expand(-1, rows * columns, -1)
        else:
            smoothing = self.config.augment.smoothing
            dense = dense_targets(batch.dense, self.token_grid, self.num_classes)
            dense = (1 - smoothing) * dense + smoothing / self.num_classes
        if self.section.class_target == "dense":
            targets = dense.mean(1)
        box = self._box(len(targets), epoch=epoch, step=step)
        share = 1 - (box[2] - box[0]) * (box[3] - box[1]) / (rows * columns)
        if share < 1:
            targets = torch.lerp(swap_neighbours(targets), targets, share)
        return self.images(batch), targets, dense, torch.tensor(box).repeat(len(targets), 1)

    def loss(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return class_weight * cross-entropy of the class token + weight * mean cross-entropy of the tokens."""
        images, targets, dense, box_B4 = inputs
        class_logits, dense_logits = model(images, tuple(box_B4[0].tolist()))
        class_loss, dense_loss = soft_cross_entropy(class_logits, targets), soft_cross_entropy(dense_logits, dense)
        return self.section.class_weight * class_loss + self.section.weight * dense_loss

    def chance(self) -> float | None:
        """Return the loss of the best constant answer; a teacher's labels are taken to be as frequent as the images' own."""
        chance = super().chance()
        return None if chance is None else (self.section.class_weight + self.section.weight) * chance

    def _box(self, count: int, *, epoch: int, step: int) -> Box:
        """Return the box of a step, the same on every process; none where MixToken is off."""
        if not self.section.mix_token:
            return NO_BOX
        if count % 2:
            raise UserError(
                f"train.batch_size: each process gets {count} images, and MixToken pairs them; give an even number for each"
                " process, or set token_labels.mix_token=0"
            )
        assert self.token_grid is not None
        return draw_box(self.token_grid, self.section.mix_token, self.config.train.seed, epoch=epoch, step=step)


def draw_box(grid: tuple[int, int], beta: float, seed: int, *, epoch: int, step: int) -> Box:
    """Return MixToken's box of a step, keyed by (seed, epoch, step).

    Its area is at most 1 - lambda of the grid (rows, columns), lambda ~ Beta(beta, beta): its sides are even numbers of tokens, as
    VOLO's program makes them. Its centre is uniform over the tokens, and what lies beyond the edge is cut off, as CutMix does.
    """
    own = generator(seed, epoch=epoch, index=step, stream="mixtoken")
    side = (1 - own.beta(beta, beta)) ** 0.5
    (top, bottom), (left, right) = (_interval(own.random(), int(tokens * side), tokens) for tokens in grid)
    return top, left, bottom, right


def _interval(uniform: float, length: int, tokens: int) -> tuple[int, int]:
    """Return the part of `tokens` that an interval around a token covers, the token named by a number in [0, 1).

    An odd `length` loses one token.
    """
    centre, half = int(uniform * tokens), length // 2
    return max(centre - half, 0), min(centre + half, tokens)
