"""Warnings about DINO settings that suit a million images and hurt on a few thousand."""

import math
from collections.abc import Iterator

from common.data.augment.multi_crop import COLOR_KEYS
from common.models.freezing import adaptation_warnings
from common.sizes import describe_size, height_and_width
from common.training.optimizers import optimizer_warnings
from pretrain.config import DinoConfig, PretrainConfig


def config_warnings(config: PretrainConfig, *, num_images: int, steps: int) -> Iterator[str]:
    """Yield a warning, with its remedy, for every setting known to fail with this number of images or steps."""
    dino = config.dino
    if dino.out_dim > 2 * num_images:
        yield (
            f"dino.out_dim = {dino.out_dim} prototypes for {num_images} images: most prototypes are never assigned an image, and "
            f"the loss fits noise. Try {min(max(64, num_images // 4), 2 * num_images)} or fewer."
        )
    memory = 1 / max(1 - dino.momentum_teacher, 1e-12)
    start = "its random initialization" if config.init is None else "the weights of init"
    if memory > steps / 4:
        yield (
            f"dino.momentum_teacher = {dino.momentum_teacher} averages over {memory:.0f} steps, but the run has {steps}: the "
            f"teacher stays close to {start}. {_lower_momentum(dino.momentum_teacher, steps)}"
        )
    yield from optimizer_warnings(config.optim, config.train.epochs, batch_size=config.train.batch_size)
    yield from _view_warnings(config)
    yield from adaptation_warnings(config.freeze, config.lora, config.init)
    if dino.freeze_last_layer_epochs >= config.train.epochs:
        yield (
            f"dino.freeze_last_layer_epochs = {dino.freeze_last_layer_epochs} covers all {config.train.epochs} epochs: the "
            f"last layer is never trained. Try {min(1, config.train.epochs - 1)}."
        )
    yield from _temperature_warnings(dino, config.train.epochs)
    if config.train.batch_size < 32:
        part = "the center" if dino.centering == "mean" else "the assignment to prototypes"
        yield f"train.batch_size = {config.train.batch_size}: {part} of such a small batch is noisy. Use 64 or more."


def _lower_momentum(momentum: float, steps: int) -> str:
    """Return the advice for a teacher that averages over too much of a run: over a twentieth of its steps, but at least two."""
    advised = max(0.5, 1 - 20 / steps)
    digits = max(3, math.ceil(math.log10(max(steps, 20) / 20)) + 1)
    return f"Try {advised:.{digits}f}." if advised < momentum else "Train longer."


def _temperature_warnings(dino: DinoConfig, epochs: int) -> Iterator[str]:
    """Yield a warning for a teacher that is no sharper than the student, and for a warm-up over all epochs."""
    warmup = dino.warmup_teacher_temp_epochs
    names = ["teacher_temp", "warmup_teacher_temp"] if warmup else ["teacher_temp"]
    for name in names:
        if (temperature := getattr(dino, name)) >= dino.student_temp:
            yield (
                f"dino.{name} = {temperature:g} is not below dino.student_temp = {dino.student_temp:g}: the teacher's targets are "
                f"no sharper than what the student predicts, and both become uniform. Try {0.4 * dino.student_temp:.2g}."
            )
    if warmup >= epochs and dino.warmup_teacher_temp != dino.teacher_temp:
        yield (
            f"dino.warmup_teacher_temp_epochs = {warmup} is not less than train.epochs = {epochs}: the teacher temperature does "
            "not reach dino.teacher_temp before the last epoch. "
            + (
                f"Try {shorter}."
                if (shorter := epochs * 3 // 10)
                else f"Try dino.warmup_teacher_temp={dino.teacher_temp:g}."
            )
        )


def _view_warnings(config: PretrainConfig) -> Iterator[str]:
    """Yield a warning for color augmentations that the images have no colors for, and for views whose aspect ratio differs."""
    crops, channels = config.crops, config.data.channels
    if channels != 3 and (ignored := [name for name in COLOR_KEYS if getattr(crops, name)]):
        named = ", ".join(f"crops.{name} = {getattr(crops, name):g}" for name in ignored)
        yield f"{named}: not applied, because they need RGB, and data.channels is {channels}. Set them to 0."
    height, width = height_and_width(crops.global_size)
    low, high = crops.ratio
    if height != width and not low <= width / height <= high:
        yield (
            f"crops.ratio = [{low:.3g}, {high:.3g}] has no crop of the shape of crops.global_size = "
            f"{describe_size(crops.global_size)}, so that every view is distorted. Try [{0.75 * width / height:.3g}, "
            f"{width / height / 0.75:.3g}]."
        )
