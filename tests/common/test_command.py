"""The command line of a stage."""

import errno
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPES

from common import command
from common.command import _parser
from common.config import load
from common.errors import ProcessError, SharedError, UserError
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


@pytest.mark.parametrize(
    ("error", "code", "leaves"),
    [
        (UserError("this process's image"), 2, True),
        (ProcessError("this process's port", 3), 3, True),
        (OSError(errno.EIO, "this process's disk"), 2, True),
        (MemoryError("this process's memory"), 2, True),
        (RuntimeError("CUDA out of memory."), 2, True),
        (SharedError("of all processes"), 2, False),
    ],
)
def test_a_process_waits_for_no_other_that_may_not_have_its_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, code: int, leaves: bool
) -> None:
    """The others may be in a collective, for which NCCL's destroy_process_group could wait as long as its timeout."""
    left: list[int] = []

    def fail(config: object, overrides: object) -> int:
        raise error

    monkeypatch.setattr(command, "leave_at_once", left.append)
    recipe = RECIPES / "digits" / "finetune.yaml"
    found = command.run_stage(
        FinetuneConfig, fail, lambda config: "", stage="finetune", arguments=[str(recipe), f"out={tmp_path}"]
    )
    assert found == code and left == ([code] if leaves else [])
