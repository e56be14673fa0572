"""JSON schemas: up to date, named by every recipe, study and scale in its first comment, and as strict as the loader."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import RECIPES
from jsonschema import Draft202012Validator

from common.yaml_text import read_yaml
from recipes.__main__ import main
from recipes.json_schemas import schemas
from recipes.study.schema_types import SCHEMAS

WRITTEN = {"published", "choices"}
"""Folders of files that nobody edits."""
FILES = sorted(path for path in RECIPES.rglob("*.yaml") if not WRITTEN & {*path.relative_to(RECIPES).parts})
KINDS = {"studies": "study", "scales": "scale"}
BY_NAME = dict(schemas())


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(BY_NAME[name])


def named_schema(path: Path) -> str:
    """Return the name of the schema in a file's first comment, which is relative to the file."""
    first = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", path.read_text(encoding="utf-8").splitlines()[0])
    assert first, f"{path} names no schema in its first line"
    file = (path.parent / first[1]).resolve()
    assert file.parent == SCHEMAS and file.is_file(), file
    return file.stem


def test_the_written_schemas_are_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m recipes schema` updates them."""
    assert main(["schema", "--out", str(tmp_path)]) == 0
    written = sorted(tmp_path.iterdir())
    assert [path.name for path in written] == sorted(path.name for path in SCHEMAS.iterdir())
    assert capsys.readouterr().out.count(".json") == len(written)
    for path in written:
        Draft202012Validator.check_schema(json.loads(path.read_text()))
        assert path.read_text() == (SCHEMAS / path.name).read_text(), path.name


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_file_names_its_schema_and_is_valid(path: Path) -> None:
    name, folder = named_schema(path), path.parent.name
    assert KINDS.get(folder, name) == name and (name not in KINDS.values() or folder in KINDS)
    assert [error.message for error in validator(name).iter_errors(read_yaml(path.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("finetune", {"optm": {}}),
        ("finetune", {"optim": {"learning_rate": 1.0}}),
        ("finetune", {"optim": {"lr": 0}}),
        ("finetune", {"optim": {"lr": "fast"}}),
        ("finetune", {"optim": {"name": "adam"}}),
        ("finetune", {"data": {"mean": [0, 0, 2]}}),
        ("finetune", {"train": {"micro_batch_size": 3}}),
        ("finetune", {"data": {"image_size": [8, 8, 8]}}),
        ("pretrain", {"dino": {"out_dim": 0}}),
        ("study", {"name": "x"}),
        ("scale", {"train_images": 3}),
    ],
)
def test_mistakes_are_marked(name: str, content: dict[str, Any]) -> None:
    assert list(validator(name).iter_errors(content))


@pytest.mark.parametrize(
    "content",
    [
        {"init": "none"},
        {"init": None},
        {"ema_decay": "none"},
        {"data": {"source": 2024}},
        {"extends": "a.yaml"},
        {"optim": {"lr": 1}},
    ],
)
def test_what_the_loader_takes_is_not_marked(content: dict[str, Any]) -> None:
    assert not list(validator("finetune").iter_errors(content))


def test_keys_have_their_help() -> None:
    optim = BY_NAME["finetune"]["$defs"]["OptimConfig"]["properties"]
    assert optim["weight_decay_end"]["description"].startswith("Weight decay at the last step")
    assert all(entry.get("description") for entry in BY_NAME["study"]["properties"].values())
