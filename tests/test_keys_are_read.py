"""Every recipe key is read by its command: none is accepted and silently ignored."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pydantic
import pytest
from conftest import RECIPES

from common import config as recipes
from common.evaluation.__main__ import main as evaluate
from common.evaluation.config import CONFIGS
from finetune.config import FinetuneConfig
from pretrain.config import PretrainConfig

Stage = Callable[..., int]
CHECKERS = (recipes.__file__, pydantic.main.__file__)
"""Files that access every key for validation or copying; the classes' own `problems` do so, too."""


def sections(cls: type[Any]) -> Iterator[type[Any]]:
    """Yield the config class of a recipe and those of its sections."""
    yield cls
    for field in cls.model_fields.values():
        if recipes.is_section(field.annotation):
            yield from sections(field.annotation)


def is_validation(frame: FrameType | None) -> bool:
    """Return whether a function only validates or copies keys; a comprehension counts as its enclosing function."""
    while frame is not None and frame.f_code.co_name.startswith("<"):
        frame = frame.f_back
    return frame is None or frame.f_code.co_filename in CHECKERS or frame.f_code.co_name.endswith("problems")


@contextmanager
def reads(cls: type[Any]) -> Iterator[set[str]]:
    """Record the keys read within the block, as <class>.<field>, except by validation of the complete recipe."""
    read: set[str] = set()
    classes = dict.fromkeys(sections(cls))
    fields = {each: set(each.model_fields) for each in classes}
    with pytest.MonkeyPatch.context() as patch:
        for each in classes:

            def get(self: Any, name: str) -> Any:
                if name in fields.get(type(self), ()) and not is_validation(sys._getframe(1)):
                    read.add(f"{type(self).__name__}.{name}")
                return object.__getattribute__(self, name)

            patch.setattr(each, "__getattribute__", get, raising=False)
        yield read


def keys(cls: type[Any]) -> set[str]:
    """Return every key of a recipe as <class>.<field>, without the sections themselves."""
    return {
        f"{section.__name__}.{name}"
        for section in sections(cls)
        for name, field in section.model_fields.items()
        if not recipes.is_section(field.annotation)
    }


LIMITS = ("status.smoothing_steps=1", "status.min_steps=1", "optim.warmup_epochs=0")
DIVERGENCE = ("train.on_divergence=rewind", "train.max_rewinds=1", "optim.lr=1e38")
OF_TIMM = ("model.name=vit_tiny_patch16_224", "model.kwargs=[embed_dim=64,depth=1,num_heads=1]", "model.stem=none")
RUNS: dict[str, list[tuple[str, ...]]] = {
    "pretrain": [(*LIMITS, "status.uniform_share=0", "lora.rank=2"), ("optim.name=sgd", *DIVERGENCE, *OF_TIMM)],
    "finetune": [
        (*LIMITS, "status.chance_epochs=1", "status.chance_steps=1", "status.learned_share=0.01"),
        ("optim.name=sam", "optim.base=sgd", "optim.clip_grad=1", *DIVERGENCE),
        ("augment.mixup=0.5", "augment.cutmix=0.5", "ema_decay=0.9", "train.epochs=1", "lora.rank=2"),
        ("ema_span=0.5", "loss.class_weights=effective_number", "train.epochs=1", *OF_TIMM),
        ("objective=token_labels", "model.name=volo_mini", "model.patch_size=2", "model.stem=conv", "train.epochs=1"),
        ("objective=reid", "data.source=digits_identities", "data.images_per_class=4", "train.epochs=1"),
    ],
    "linear": [("optim.clip_grad=1",), ("optim.name=adamw", "train.epochs=1", "blocks=1", *OF_TIMM)],
    "knn": [(), OF_TIMM],
    "probe": [("max_products=1", "beyond=knn"), OF_TIMM],
    "tokens": [(), OF_TIMM],
}
"""Overrides of the tiny runs that cover all keys: some keys are read only in combination with others."""
REFUSED = {
    "pretrain": {"TrainConfig.evaluate_every", "OptimConfig.base", "OptimConfig.rho"},
    "linear": {
        *(
            f"TrainConfig.{name}"
            for name in ("kernels", "class_token_only", "grad_checkpointing", "micro_batch_size", "max_rewinds")
        ),
        *("OptimConfig.base", "OptimConfig.rho"),
    },
    "token_labels": {"DataConfig.max_corrupt"},
}
"""Keys that a command refuses, or that are read only together with what it refuses: sam, rewind, skip."""
CLASSES = {"pretrain": PretrainConfig, "finetune": FinetuneConfig, **CONFIGS}


@pytest.mark.parametrize("name", RUNS)
def test_every_key_is_read_or_refused(stage: Stage, tmp_path: Path, name: str) -> None:
    with reads(CLASSES[name]) as read:
        for number, overrides in enumerate(RUNS[name]):
            assert stage(name, tmp_path / str(number), *overrides) == 0
    assert keys(CLASSES[name]) - read == REFUSED.get(name, set())


def test_every_key_of_complexity_is_read(tmp_path: Path) -> None:
    with reads(CONFIGS["complexity"]) as read:
        for number, overrides in enumerate(((), OF_TIMM)):
            recipe = str(RECIPES / "imagenet1k" / "complexity.yaml")
            assert evaluate(["complexity", recipe, f"out={tmp_path / str(number)}", *overrides]) == 0
    assert keys(CONFIGS["complexity"]) <= read


def test_every_key_of_token_labels_is_read(stage: Stage, tmp_path: Path) -> None:
    assert stage("finetune", tmp_path / "teacher", "train.epochs=1") == 0
    recipe = str(RECIPES / "digits" / "token_labels.yaml")
    with reads(CONFIGS["token_labels"]) as read:
        assert evaluate(["token_labels", recipe, f"init={tmp_path / 'teacher'}", f"out={tmp_path / 'labels'}"]) == 0
    assert keys(CONFIGS["token_labels"]) - read == REFUSED["token_labels"]
