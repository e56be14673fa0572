"""Owns what is known to fail: settings of a fine-tuning that are accepted and do not do what they are for."""

from collections.abc import Iterator

from common.training.ema import span_warnings
from common.training.optimizers import ramp_warnings
from finetune.config import FinetuneConfig


def known_failures(config: FinetuneConfig, *, steps: int) -> Iterator[str]:
    """Yield a sentence for every such setting of a run of so many steps, with the remedy."""
    yield from ramp_warnings(config.optim, config.train.epochs)
    yield from span_warnings(config.ema_span, steps=steps)
