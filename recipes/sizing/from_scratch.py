"""Recipe keys of training from scratch, each with its reason: views, DINO's head and schedule, fine-tuning."""

from collections.abc import Iterator, Mapping
from typing import Any

from recipes.sizing.facts import ImageFacts
from recipes.sizing.networks import TINY, NetworkAtSize

Setting = tuple[str, Any, str]
"""Key, value and reason."""
LARGEST_BLUR = 2.0
"""Sigma of DINO's blur for 224 px, in pixels."""
LEAST_BLURRED = 64
"""Side of a view in pixels below which it is neither blurred nor solarized."""


def power_of_two(value: float, least: int, most: int) -> int:
    """Return the largest power of two that is at most `value`, within bounds that are powers of two."""
    return max(least, min(most, 1 << max(0, int(value).bit_length() - 1)))


def pretraining_batch(images: int) -> Setting:
    """Return the batch size of pre-training: small, for steps are what a small study lacks; Sinkhorn-Knopp needs some images."""
    batch = power_of_two(images / 3, 8, 64 if images < 50_000 else 128 if images < 500_000 else 512)
    return "train.batch_size", batch, f"a third of {images} images at most, and small, for more steps"


def finetuning_batch(images: int, labeled: int) -> Setting:
    """Return the batch size of fine-tuning, for the fewest labeled images of all shares and for all of them."""
    batch = power_of_two(images, 8, 64 if labeled < 50_000 else 256)
    return (
        "train.batch_size",
        batch,
        f"at most the {images} labeled images of the smallest share; smaller batches are slower",
    )


def views(facts: ImageFacts, side: int, patch: int) -> Iterator[Setting]:
    """Yield the views of DINO from scratch for images of this kind, at an input side and patch in pixels (docs/small_data.md)."""
    yield from _colors(facts)
    if facts.side < TINY:
        yield "crops.global_size", side, "the input size"
        yield from _without_crops(facts)
        return
    view = max(patch, round(side / 2 / patch) * patch)
    yield "crops.global_size", view, "half of the input: a quarter of the tokens, so four times the epochs"
    yield "crops.num_local", 0, "global views of this size are cheap already"
    if view < LEAST_BLURRED:
        few = f"{view} px have no detail to spare"
        yield "crops.blur_prob", [0.0, 0.0, 0.0], few
        yield "crops.solarize_prob", [0.0, 0.0, 0.0], few
    else:
        yield "crops.blur_sigma", [0.1, round(LARGEST_BLUR * view / 224, 2)], "2 px at 224, in proportion"


def full_views(facts: ImageFacts, side: int, patch: int) -> Iterator[Setting]:
    """Yield the views of DINO for a network that knows images of this side: of full size, and smaller ones."""
    yield "crops.global_size", side, "the input size"
    yield from _colors(facts)
    if facts.side < TINY:
        yield from _without_crops(facts)
        return
    yield "crops.num_local", 2, "two local views: eight take most of the compute, and a short run gains more from steps"
    yield (
        "crops.local_size",
        max(patch, round(side * 3 / 7 / patch) * patch),
        "three sevenths of the input, as 96 of 224",
    )
    yield "crops.blur_sigma", [0.1, round(max(0.2, LARGEST_BLUR * side / 224), 2)], "2 px at 224, in proportion"


def _colors(facts: ImageFacts) -> Iterator[Setting]:
    """Yield the color augmentation that images without color do without."""
    if facts.gray or facts.channels != 3:
        for key in ("crops.saturation", "crops.hue", "crops.grayscale_prob"):
            yield key, 0.0, "the images are gray" if facts.gray else "the images are not RGB"


def _without_crops(facts: ImageFacts) -> Iterator[Setting]:
    """Yield views without crops, for tiny images (recipes/digits/pretrain.yaml)."""
    few = f"images of {facts.side} px have no crops that show the same thing"
    yield "crops.num_local", 0, few
    yield "crops.global_scale", [1.0, 1.0], few
    yield "crops.ratio", [1.0, 1.0], few
    yield "crops.degrees", 10.0, "small rotations and translations instead of crops"
    yield "crops.translate", 0.03, "small rotations and translations instead of crops"
    yield "crops.hflip_prob", 0.0, "so small an image is mostly a sign, whose mirror image is another one"
    yield "crops.blur_prob", [0.0, 0.0, 0.0], few
    yield "crops.solarize_prob", [0.0, 0.0, 0.0], few


def head(facts: ImageFacts, at: NetworkAtSize) -> Iterator[Setting]:
    """Yield the size of DINO's head."""
    images = facts.images
    is_small = at.network.name in ("vit_mini", "vit_micro")
    hidden, bottleneck = (256, 64) if is_small else (1024, 128)
    yield "dino.hidden_dim", hidden, "a head of the size of the network"
    yield "dino.bottleneck_dim", bottleneck, "a head of the size of the network"
    most = 512 if facts.side < TINY else 256 if images < 100_000 else 4096
    yield (
        "dino.out_dim",
        power_of_two(images / 2, 64, most),
        f"prototypes: at most half of {images} images, and few for few steps",
    )
    if facts.side < TINY:
        yield "dino.head_batch_norm", False, "as recipes/digits/pretrain.yaml"


def schedule(
    steps: int, at: NetworkAtSize, batch: int, facts: ImageFacts, steps_of_stems: Mapping[str, int]
) -> Iterator[Setting]:
    """Yield DINO's settings that depend on the number of steps: `steps`, those of the stem that costs more."""
    window = max(20.0, min(250.0, steps / 100))
    of_stems = " and ".join(f"{count} with {stem}" for stem, count in steps_of_stems.items())
    why = f"averages over {window:.0f} steps; pre-training has {of_stems}"
    yield "dino.momentum_teacher", round(1 - 1 / window, 4), why
    if facts.side < TINY:
        yield "dino.teacher_temp", 0.025, "views without crops: directions that correlate less may grow, too"
        yield "dino.warmup_teacher_temp", 0.025, "as dino.teacher_temp"
    yield peak_lr(at.network.pretraining_lr, batch)


def finetuning(facts: ImageFacts, at: NetworkAtSize, batch: int) -> Iterator[Setting]:
    """Yield the settings of supervised training, the same for one and two stages."""
    yield peak_lr(at.network.finetuning_lr, batch)
    if facts.side < TINY:
        few = "too small for crops"
        yield "augment.crop_scale", [1.0, 1.0], few
        yield "augment.ratio", [1.0, 1.0], few
        yield "augment.degrees", 10.0, "small rotations and translations instead of crops"
        yield "augment.translate", 0.05, "small rotations and translations instead of crops"
        yield "augment.hflip_prob", 0.0, "so small an image is mostly a sign, whose mirror image is another one"


def peak_lr(rate: float, batch: int) -> Setting:
    """Return the peak learning rate for a batch size, from that for 64: with the square root, as for AdamW."""
    return "optim.lr", float(f"{rate * (batch / 64) ** 0.5:.2g}"), f"{rate:g} for batches of 64, with their root"
