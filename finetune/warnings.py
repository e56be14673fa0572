"""Warnings about fine-tuning settings that are valid but have no or little effect."""

from collections.abc import Iterator, Mapping
from typing import Any

from common.config import Config, default_of
from common.data.augment.supervised import AugmentConfig, color_warnings
from common.models.freezing import adaptation_warnings
from common.training.config import TrainConfig
from common.training.ema import average_warnings
from common.training.optimizers import optimizer_warnings
from finetune.config import FinetuneConfig


def config_warnings(config: FinetuneConfig, *, steps: int) -> Iterator[str]:
    """Yield a warning, with its remedy, for every such setting in a run of `steps` steps."""
    yield from optimizer_warnings(config.optim, config.train.epochs, batch_size=config.train.batch_size)
    warmup_steps = round(config.optim.warmup_epochs * steps / config.train.epochs)
    yield from average_warnings(config.ema_decay, config.ema_span, steps=steps, warmup_steps=warmup_steps)
    yield from color_warnings(config.augment, channels=config.data.channels)
    yield from adaptation_warnings(config.freeze, config.lora, config.init)
    yield from _unread(config)


def _unread(config: FinetuneConfig) -> Iterator[str]:
    """Yield a warning for each key that has another value than its default, and is not read beside the others."""
    augment, train = vars(config.augment), vars(config.train)  # not attributes: tests see which keys a run reads
    if not (augment["mixup"] and augment["cutmix"]) and _is_set(AugmentConfig, augment, "mixup_switch_prob"):
        yield (
            f"augment.mixup_switch_prob = {augment['mixup_switch_prob']:g}: has no effect unless both augment.mixup and"
            " augment.cutmix are above 0. Set both, or remove the key."
        )
    if not augment["padding"] and _is_set(AugmentConfig, augment, "padding_mode"):
        yield (
            f"augment.padding_mode = {augment['padding_mode']}: has no effect without augment.padding. Set it, or remove the key."
        )
    if train["on_divergence"] == "stop" and _is_set(TrainConfig, train, "max_rewinds"):
        yield (
            f"train.max_rewinds = {train['max_rewinds']}: has no effect with train.on_divergence=stop. Set"
            " train.on_divergence=rewind, or remove the key."
        )


def _is_set(cls: type[Config], values: Mapping[str, Any], name: str) -> bool:
    """Return whether a key has another value than its default."""
    return bool(values[name] != default_of(cls, name))
