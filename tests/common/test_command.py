"""The command line of a stage."""

import re
from typing import Any

import pytest
from conftest import RECIPES

from common.command import _parser
from common.config import load
from common.evaluation.config import CONFIGS
from finetune.config import FinetuneConfig
from pretrain.config import PretrainConfig

STAGES = {"pretrain": PretrainConfig, "finetune": FinetuneConfig} | {
    f"common.evaluation {name}": cls for name, cls in CONFIGS.items()
}


@pytest.mark.parametrize(("stage", "cls"), STAGES.items())
def test_help_names_a_recipe_of_the_stage(stage: str, cls: type[Any]) -> None:
    example = re.search(r"for example (recipes/\S+)", " ".join(_parser(cls, stage).format_help().split()))
    assert example is not None
    load(cls, RECIPES.parent / example[1])
