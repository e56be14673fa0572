"""Recipe keys of the arms that start from public weights: their input size, fine-tuning, and continued pre-training."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recipes.sizing.facts import MEASURED
from recipes.sizing.from_scratch import Setting, power_of_two

SMALL_NETWORK = 2_000_000
"""Parameters below which a network is fine-tuned with higher rates, without layer decay."""
LEAST_SIDE = 6
"""Patches along a side of the smallest input: with fewer, the weights see another kind of image than they know."""


@dataclass(frozen=True)
class PublicWeights:
    """Public weights that can be had."""

    init: str
    side: int
    """Side of the images they were trained on, in pixels."""
    patch: int
    parameters: int
    width: int = 384
    """Features of an image."""
    pools_class_token: bool = False
    """Whether its last block may compute its class token alone (`train.class_token_only`)."""
    is_own: bool = False
    """Whether this program wrote them: then normalization is measured, which takes that of the weights."""

    def normalization(self, channels: int) -> dict[str, str]:
        """Return the keys of the normalization; {} if the weights state it: they are of another program, and the images RGB.

        Measured stands for that of the weights where this program wrote them.
        """
        return dict(MEASURED) if self.is_own or channels != 3 else {}

    @property
    def is_small(self) -> bool:
        """Return whether the network is small."""
        return self.parameters < SMALL_NETWORK

    def sides(self) -> list[int]:
        """Return the input sides to choose from, the largest first: that of the weights, then fewer patches."""
        most = self.side // self.patch
        steps = {most, *(round(most * part) for part in (0.75, 0.5, 0.375))}
        return [count * self.patch for count in sorted(steps, reverse=True) if count >= min(LEAST_SIDE, most)]


def start_settings(public: PublicWeights, side: int, channels: int) -> dict[str, Any]:
    """Return the keys of every run that starts from the weights."""
    return {"init": public.init, "model.name": "init", "data.image_size": side, **public.normalization(channels)}


def finetuning(public: PublicWeights) -> Iterator[Setting]:
    """Yield the settings of fine-tuning public weights, as they are and continued."""
    if public.is_small:
        yield "optim.lr", 1e-3, "a network of less than 2 million parameters"
    else:
        yield "optim.lr", 3e-4, "given weights change little (recipes/small_data.yaml)"
        yield "optim.layer_decay", 0.75, "the first, most general layers least (recipes/small_data.yaml)"


def continued(public: PublicWeights, images: int) -> Iterator[Setting]:
    """Yield the settings of continued pre-training that do not depend on the number of steps."""
    yield "dino.out_dim", power_of_two(images / 4, 64, 4096), f"prototypes: at most a quarter of {images} images"
    if public.is_small:
        yield "dino.hidden_dim", 256, "a head of the size of the network"
        yield "dino.bottleneck_dim", 64, "a head of the size of the network"
        yield "optim.lr", 5e-4, "a network of less than 2 million parameters"
    else:
        yield "optim.lr", 5e-5, "a tenth of that from scratch (recipes/continue.yaml)"


def continued_schedule(steps: int) -> Iterator[Setting]:
    """Yield what depends on the number of steps of continued pre-training."""
    window = max(20.0, min(500.0, steps / 4))
    yield (
        "dino.momentum_teacher",
        round(1 - 1 / window, 4),
        f"averages over {window:.0f} of {steps} steps: slow from the start",
    )
