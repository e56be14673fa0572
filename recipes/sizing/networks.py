"""Networks that are trained from scratch, by the number of images and their size: the candidates of a sizing."""

from dataclasses import dataclass

SIDES = (224, 192, 160, 128, 96, 80, 64, 48, 40, 32, 24, 16, 12)
"""Sides of the input in pixels, besides the side of the images themselves."""
SMALLEST_SIDE = 12
"""Smaller images are enlarged to this side, so that rotations and translations are smooth (recipes/digits/pretrain.yaml)."""
TINY = 24
"""Side below which an image has no crops that show the same thing: views differ by small rotations and translations."""
LEAST_SIDE = 32
"""Smallest input side of larger images, as long as every image can be seen once at it."""
SMALLER_SIDES = (24, 16)
"""Smallest input sides of larger images, in turn, where the budget would not allow to see each of them once."""


@dataclass(frozen=True)
class NetworkSize:
    """A network, the number of training images from which on it is a candidate, and the peak learning rates it is trained with."""

    name: str
    width: int
    """Features of an image."""
    least_images: int
    pretraining_lr: float
    """Peak learning rate of DINO with AdamW for batches of 64."""
    finetuning_lr: float
    """Peak learning rate of supervised training with AdamW for batches of 64."""
    is_narrow: bool = False
    """Whether the default conv stem costs more than the network."""


NETWORKS = (
    NetworkSize("vit_mini", 64, 0, 3e-3, 2e-3, is_narrow=True),
    NetworkSize("vit_micro", 128, 2_000, 1.5e-3, 1e-3, is_narrow=True),
    NetworkSize("vit_compact", 192, 10_000, 1e-3, 1e-3),
    NetworkSize("vit_tiny", 192, 30_000, 5e-4, 5e-4),
    NetworkSize("vit_small", 384, 100_000, 3.5e-4, 5e-4),
)
"""From 0.2 to 22 million parameters. A transformer has no prior for images: with few of them a larger one learns them by heart.
That is a rule of thumb: the numbers of images were not measured.

Rates: those of vit_mini are of docs/small_data.md and of the scale cifar10_cpu; DINO's of vit_small is its 1e-3 for batches of 512,
with the root of the batch; those between are interpolated."""


@dataclass(frozen=True)
class NetworkAtSize:
    """A network at an input size."""

    network: NetworkSize
    side: int
    """Side of the input in pixels, a multiple of `patch`."""
    patch: int

    @property
    def conv_strides(self) -> list[int] | None:
        """Return the strides of the conv stem; None: its default [2, 1, 1, patch / 2].

        With it vit_mini costs 2.5 times as much as with patchify at 32 px and patch 4, 6.6 times at 64 px and patch 8. With the
        second stride earlier its middle convolutions see a quarter of the positions: 1.5 and 2.8 times. In table 3 of Scaled ReLU
        strides of 2 throughout cost DeiT-Small 0.9 points.
        """
        return [2, 2, 1, self.patch // 4] if self.network.is_narrow and self.patch in (4, 8, 16) else None

    @property
    def settings(self) -> dict[str, object]:
        """Return its recipe keys."""
        return {"model.name": self.network.name, "model.patch_size": self.patch, "data.image_size": self.side}


def patch_of(side: int) -> int:
    """Return the side of a patch: 4 pixels up to 48, 8 up to 96, then 16, for at most 196 tokens."""
    return 4 if side <= 48 else 8 if side <= 96 else 16


def input_sides(image_side: int, smallest: int = LEAST_SIDE) -> list[int]:
    """Return the input sides for images of this side, the largest first: their own, or less; never more than 224.

    Images of `TINY` pixels and more are not reduced below the side `smallest`.
    """
    own = max(SMALLEST_SIDE, min(image_side, SIDES[0]))
    own -= own % patch_of(own)
    least = min(own, smallest) if image_side >= TINY else SMALLEST_SIDE
    return sorted({own, *(side for side in SIDES if least <= side < own)}, reverse=True)


def candidates(
    image_side: int, images: int, *, side: int | None = None, patch: int | None = None, smallest: int = LEAST_SIDE
) -> list[NetworkAtSize]:
    """Return every network for so many images at every input side, or at the side and the patch given; larger ones first."""
    return [
        NetworkAtSize(network, own, patch_of(own) if patch is None else patch)
        for own in ([side] if side is not None else input_sides(image_side, smallest))
        for network in reversed(NETWORKS)
        if network.least_images <= images
    ]
