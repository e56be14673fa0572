"""Owns what is known to fail: settings of DINO that were made for a million images and do harm to a few thousand."""

from collections.abc import Iterator

from common.training.optimizers import ramp_warnings
from pretrain.config import PretrainConfig


def known_failures(config: PretrainConfig, *, num_images: int, steps: int) -> Iterator[str]:
    """Yield a sentence for every setting that is known to fail on so few images or steps, with the remedy."""
    dino = config.dino
    if dino.outputs > 2 * num_images:
        yield (
            f"dino.outputs = {dino.outputs} codes for {num_images} images: most codes never win an image, and the loss "
            f"learns from noise. Try {max(64, num_images // 4)} or fewer."
        )
    memory = 1 / max(1 - dino.teacher_momentum, 1e-12)
    if memory > steps / 4:
        yield (
            f"dino.teacher_momentum = {dino.teacher_momentum} averages over {memory:.0f} steps, the run has {steps}: the teacher "
            f"stays near its random start. Try {max(0.5, 1 - 20 / steps):.3f}."
        )
    yield from ramp_warnings(config.optim, config.train.epochs)
    if dino.freeze_last_layer_epochs >= config.train.epochs:
        yield (
            f"dino.freeze_last_layer_epochs = {dino.freeze_last_layer_epochs} covers all {config.train.epochs} epochs: the last "
            f"layer is never trained. Try {min(1, config.train.epochs - 1)}."
        )
    if dino.teacher_temperature_warmup_epochs > config.train.epochs:
        yield (
            f"dino.teacher_temperature_warmup_epochs = {dino.teacher_temperature_warmup_epochs} is longer than the training: "
            "the final temperature is never reached."
        )
    if config.train.batch_size < 32:
        yield f"train.batch_size = {config.train.batch_size}: the centre of so small a batch is noise. 64 or more is safe."
