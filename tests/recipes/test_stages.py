"""Registry of the stages: every entry resolves, and no other module of the recipes names a stage."""

import ast
import importlib
import importlib.util
import inspect
from pathlib import Path

import pytest

import recipes
from common.config import is_section
from common.errors import UserError
from recipes.stages import STAGES, config_class, cost_function, find_stage, preload_modules, resolve_by_config

SIZES = {"num_images", "num_held_out", "num_classes"}
ROOT = Path(recipes.__file__).parent


@pytest.mark.parametrize("module", STAGES)
def test_the_command_of_every_stage_exists(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    package, *arguments = module.split()
    with pytest.raises(SystemExit) as caught:
        importlib.import_module(f"{package}.__main__").main([*arguments, "--help"])
    assert caught.value.code == 0 and f"accelerate launch -m {module} " in capsys.readouterr().out


@pytest.mark.parametrize("module", STAGES)
def test_every_stage_has_a_config_and_a_cost(module: str) -> None:
    config = config_class(module)
    assert is_section(config) and "out" in config.model_fields
    first, *others = inspect.signature(cost_function(module)).parameters.values()
    assert first.annotation is config
    assert {parameter.name for parameter in others} <= SIZES
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in others)


def test_every_preloaded_module_exists() -> None:
    modules = preload_modules()
    assert len(modules) == len(set(modules)) == len(STAGES)
    assert all(importlib.util.find_spec(name) for name in modules)


def test_the_error_for_an_unknown_stage_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="finetun is not a stage. Did you mean finetune"):
        find_stage("finetun")


FILE_FORMATS = {"common.evaluation.predictions"}
"""Modules in the packages of stages that only read and write what a run leaves."""


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_registry_names_the_stages(path: Path) -> None:
    if path == ROOT / "stages.py":
        return
    tree = ast.walk(ast.parse(path.read_text()))
    nodes = [node for node in tree if isinstance(node, ast.Constant | ast.ImportFrom | ast.Import)]
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    imports = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imports |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert not strings & {*STAGES, *preload_modules()}
    of_stages = tuple(module.split()[0] for module in STAGES)
    assert not [name for name in imports - FILE_FORMATS if name and name.startswith(of_stages)]


def test_a_slash_at_the_end_of_a_path_gives_the_same_run() -> None:
    recipe = ROOT / "digits" / "finetune.yaml"
    plain, slashes = (
        resolve_by_config("finetune", recipe, (f"data.source=photos{end}", f"init=runs/dino{end}")) for end in ("", "/")
    )
    assert plain == slashes and (plain["data.source"], plain["init"]) == ("photos", "runs/dino")
