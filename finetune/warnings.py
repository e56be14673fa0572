"""Warnings about fine-tuning settings that are valid but have no or little effect."""

from collections.abc import Iterator

from common.data.augment.supervised import color_warnings
from common.models.freezing import adaptation_warnings
from common.training.ema import average_warnings
from common.training.optimizers import schedule_warnings
from finetune.config import FinetuneConfig


def config_warnings(config: FinetuneConfig, *, steps: int) -> Iterator[str]:
    """Yield a warning, with its remedy, for every such setting in a run of `steps` steps."""
    yield from schedule_warnings(config.optim, config.train.epochs, batch_size=config.train.batch_size)
    warmup_steps = round(config.optim.warmup_epochs * steps / config.train.epochs)
    yield from average_warnings(config.ema_decay, config.ema_span, steps=steps, warmup_steps=warmup_steps)
    yield from color_warnings(config.augment, channels=config.data.channels)
    yield from adaptation_warnings(config.freeze, config.lora, config.init)
