"""Every recipe and every study in the repository loads; a list that is empty is a failure."""

from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPES

from common.config import load, resolve
from common.evaluation.token_labels import DenseLabelsConfig
from finetune.config import FinetuneConfig
from pretrain.config import PretrainConfig

FILES = sorted(path for path in RECIPES.rglob("*.yaml") if "studies" not in path.relative_to(RECIPES).parts)


def test_there_are_recipes() -> None:
    assert len(FILES) >= 8


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_a_recipe_loads_as_its_stage(path: Path) -> None:
    keys = resolve(path).keys()
    stage: type[Any] = PretrainConfig if {"dino", "views", "knn"} & keys else FinetuneConfig
    if "classes" in keys:
        stage = DenseLabelsConfig
    assert load(stage, path).out.startswith("runs/")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_a_recipe_opens_with_what_it_is_and_how_to_run_it(path: Path) -> None:
    opening = path.read_text().split("\nout:")[0]
    assert opening.startswith("# ") and "accelerate launch -m" in opening


def test_dinos_imagenet_recipe_holds_the_papers_numbers() -> None:
    config = load(PretrainConfig, RECIPES / "imagenet1k" / "dino_vit_small.yaml")
    assert (config.dino.outputs, config.dino.teacher_momentum, config.dino.center_momentum) == (65536, 0.996, 0.9)
    assert config.views.blur == (1.0, 0.1, 0.5) and config.views.solarize == (0.0, 0.2, 0.0)
    assert config.optim.lr * config.train.batch_size / config.optim.lr_batch == pytest.approx(1e-3)
