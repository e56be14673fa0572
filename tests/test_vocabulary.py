"""The field's words: names that were replaced by those of timm, DINO, torchvision or accelerate do not come back."""

import ast
import contextlib
import io
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.config_help import all_fields
from common.evaluation import __main__ as evaluation
from finetune.__main__ import main as finetune_main
from finetune.config import FinetuneConfig
from pretrain.__main__ import main as pretrain_main
from pretrain.config import PretrainConfig
from recipes.__main__ import main as recipes_main

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("common", "pretrain", "finetune", "recipes", "benchmarks", "tests")

WORDS = tomllib.loads((ROOT / "tests" / "replaced_words.toml").read_text(encoding="utf-8"))
KEYS = {section: keys.split() for section, keys in WORDS["keys"].items()}
NAMES = {kind: names.split() for kind, names in WORDS["names"].items()}
PHRASES = re.compile("|".join(WORDS["phrases"]["prose"]), re.IGNORECASE)


def documents() -> Iterator[tuple[Path, str]]:
    """Yield the documents and the recipes: everything a reader sees first."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for path in [*paths, *sorted((ROOT / "recipes").rglob("*.yaml"))]:
        yield path, path.read_text(encoding="utf-8")


def sources() -> Iterator[Path]:
    """Yield every Python file of the project."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


@cache
def helps() -> dict[str, str]:
    """Return what every command prints under --help."""
    commands: dict[str, tuple[Any, list[str]]] = {
        "pretrain": (pretrain_main, []),
        "finetune": (finetune_main, []),
        **{
            name: (evaluation.main, [name])
            for name in ("linear", "knn", "probe", "tokens", "complexity", "token_labels")
        },
        **{f"recipes {name}": (recipes_main, [name]) for name in ("list", "plan", "run", "report")},
    }
    return {name: _help(main, words) for name, (main, words) in commands.items()}


def _help(main: Any, words: list[str]) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit):
        main([*words, "--help"])
    return text.getvalue()


def dotted() -> list[str]:
    """Return the replaced keys as a command line has them."""
    return [f"{section}.{key}" for section, keys in KEYS.items() for key in keys]


def test_no_recipe_has_an_old_key() -> None:
    found = {key for cls in (PretrainConfig, FinetuneConfig) for key, _ in all_fields(cls)}
    assert len(found) > 100
    assert found & set(dotted()) == set()
    assert {key.partition(".")[0] for key in found} & set(NAMES["sections"]) == set()


def test_no_yaml_sets_an_old_key() -> None:
    old = {(section, key) for section, keys in KEYS.items() for key in keys}

    def pairs(node: Any, section: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, dict):
            for key, value in node.items():
                yield section, str(key)
                yield from pairs(value, str(key).rpartition(".")[2])
        elif isinstance(node, list):
            for value in node:
                yield from pairs(value, section)

    paths = sorted((ROOT / "recipes").rglob("*.yaml"))
    assert len(paths) > 30
    for path in paths:
        found = set(pairs(yaml.safe_load(path.read_text(encoding="utf-8")), ""))
        assert found & old == set(), path
        assert {key for _, key in found} & {*NAMES["sections"], *NAMES["study_keys"]} == set(), path


def test_no_document_or_help_names_an_old_key_or_flag() -> None:
    pattern = re.compile(
        "|".join(rf"(?<![\w.])(?:{re.escape(name)})(?![\w-])" for name in [*dotted(), *NAMES["flags"]])
    )
    sections = re.compile(rf"(?<![\w.])(?:{'|'.join(NAMES['sections'])})\.[a-z_]+")
    texts = [*((str(path), text) for path, text in documents()), *helps().items()]
    for name, text in texts:
        assert pattern.findall(text) == [], name
        assert sections.findall(text) == [], name


def test_no_module_has_an_old_name() -> None:
    stems = {path.stem: path for path in sources()}
    assert {name: str(stems[name]) for name in NAMES["modules"] if name in stems} == {}


def test_no_identifier_is_an_old_name() -> None:
    old, count = {*NAMES["types"], *NAMES["unmistakable"]}, 0
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {
                value
                for value in (getattr(node, slot, None) for slot in ("id", "attr", "name", "arg"))
                if isinstance(value, str)
            }
            count += len(names)
            assert names & old == set(), f"{path}:{getattr(node, 'lineno', 0)}"
    assert count > 10_000


@pytest.mark.parametrize("kind", ["documents", "help", "sources"])
def test_no_sentence_has_words_that_the_field_does_not_use(kind: str) -> None:
    texts = {
        "documents": lambda: ((str(path), text) for path, text in documents()),
        "help": lambda: helps().items(),
        "sources": lambda: ((str(path), path.read_text(encoding="utf-8")) for path in sources()),
    }[kind]()
    found = [f"{name}: {match[0]}" for name, text in texts for match in PHRASES.finditer(text)]
    assert found == []
