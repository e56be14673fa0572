"""Every recipe in the repository loads; an empty list of recipes is a failure."""

import re
from pathlib import Path

import pytest
from conftest import RECIPES

from common.config import load
from common.evaluation.config import CONFIGS, KnnEvaluationConfig, LinearConfig
from finetune.config import FinetuneConfig
from pretrain.config import PretrainConfig

FILES = sorted(path for path in RECIPES.rglob("*.yaml") if "studies" not in path.relative_to(RECIPES).parts)


STAGES = {"pretrain": PretrainConfig, "finetune": FinetuneConfig} | {
    f"common.evaluation {name}": cls for name, cls in CONFIGS.items()
}


def stage_of(path: Path) -> str:
    """Return the stage of the command in a recipe's header."""
    command = re.search(r"accelerate launch -m (common\.evaluation \w+|\w+) \S*?recipes/(\S+)", path.read_text())
    assert command and RECIPES / command[2] == path, "the recipe's command names another recipe"
    return command[1]


def test_there_are_recipes_for_every_stage() -> None:
    assert {stage_of(path) for path in FILES} == STAGES.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_recipe_loads_as_its_stage(path: Path) -> None:
    assert load(STAGES[stage_of(path)], path).out.startswith("runs/")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_recipe_header_has_description_and_command(path: Path) -> None:
    header = path.read_text().split("\nout:")[0]
    assert header.startswith("# ") and "accelerate launch -m" in header


def test_imagenet_dino_recipe_has_the_papers_hyperparameters() -> None:
    config = load(PretrainConfig, RECIPES / "imagenet1k" / "dino_vit_small.yaml")
    assert (config.dino.out_dim, config.dino.momentum_teacher, config.dino.center_momentum) == (65536, 0.996, 0.9)
    assert config.crops.blur_prob == (1.0, 0.1, 0.5) and config.crops.solarize_prob == (0.0, 0.2, 0.0)
    assert config.optim.lr * config.train.batch_size / config.optim.lr_base_batch_size == pytest.approx(1e-3)


def test_imagenet_linear_recipe_follows_dinos_protocol() -> None:
    config = load(LinearConfig, RECIPES / "imagenet1k" / "linear.yaml")
    optim, augment = config.optim, config.augment
    assert (config.blocks, config.average_pool, config.train.epochs) == (4, False, 100)
    assert (optim.name, optim.lr, optim.lr_base_batch_size, optim.momentum) == ("sgd", 1e-3, 256, 0.9)
    assert optim.weight_decay == optim.warmup_epochs == optim.min_lr == 0
    assert augment.crop_scale == (0.08, 1.0) and augment.hflip_prob == 0.5
    assert (
        augment.auto_augment == ""
        and augment.mixup == augment.cutmix == augment.random_erasing_prob == augment.label_smoothing == 0
    )


def test_imagenet_knn_recipe_uses_all_training_images() -> None:
    knn = load(KnnEvaluationConfig, RECIPES / "imagenet1k" / "knn.yaml").knn
    assert sorted(knn.ks) == [10, 20, 100, 200] and knn.ks[0] == 20
    assert knn.bank_images is None and knn.temperature == 0.07 and knn.crop_pct == 0.875
