"""Fake lengths and costs of a study's runs, so that budgets can be counted by hand."""

from collections.abc import Callable

from common.training.cost import Cost
from recipes.study.lengths import RunLength
from recipes.study.plan import PlannedRun

Measure = Callable[[PlannedRun], RunLength]


def fake_measure(*, pretrain: int, image: int, epochs: int = 20) -> Measure:
    """Return costs: a pre-training of `pretrain` MACs; an epoch of fine-tuning of 10 steps, and `image` MACs for its one image."""

    def measure(run: PlannedRun) -> RunLength:
        if run.stage == "pretrain":
            return RunLength(Cost(steps=70, images=1, macs_per_image=pretrain), 7)
        words = dict(word.split("=", 1) for word in run.overrides)
        own = int(words.get("train.epochs", epochs))
        keys = {"optim.warmup_epochs": 2.0, "train.evaluate_every": 5}
        keys = {key: type(value)(words.get(key, value)) for key, value in keys.items()}
        return RunLength(Cost(steps=10 * own, images=own, macs_per_image=image), own, keys)

    return measure
