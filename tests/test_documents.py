"""Tests that the documents are right: links, files, tests, recipes, studies and commands that they name."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from common.config import load
from common.config_help import all_fields
from common.errors import UserError
from common.evaluation.config import CONFIGS
from finetune.config import FinetuneConfig
from pretrain.config import PretrainConfig
from recipes.study.study_file import build_study

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
STAGES = {"pretrain": PretrainConfig, "finetune": FinetuneConfig} | {
    f"common.evaluation {name}": cls for name, cls in CONFIGS.items()
}
every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@cache
def text_of(document: Path) -> str:
    """Return the text of a document."""
    return document.read_text(encoding="utf-8")


def named_tests(document: Path) -> list[str]:
    """Return the test ids `tests/<file>.py::<function>` in a document."""
    return re.findall(r"`(tests/[\w/]+\.py::\w+)`", text_of(document))


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def blocks(document: Path, language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text_of(document), re.MULTILINE | re.DOTALL)


def stage_commands(document: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (stage, recipe, overrides) of every command that starts a stage."""
    for block in blocks(document, "(?:console|bash)"):
        for line in block.replace("\\\n", " ").splitlines():
            command = re.search(r"-m (pretrain|finetune|common\.evaluation \w+) (recipes/\S+?\.yaml)([^'\"]*)", line)
            if command:
                words = shlex.split(command[3], comments=True)
                yield command[1], command[2], [word for word in words if not word.startswith("-")]


@every_document
def test_links_resolve(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(document)):
        path, _, anchor = target.partition("#")
        if path.startswith("http"):
            continue
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@every_document
def test_named_files_exist(document: Path) -> None:
    names = re.findall(
        r"(?<![\w./-])((?:common|pretrain|finetune|recipes|benchmarks|docs)/[\w./-]+\.\w+)", text_of(document)
    )
    assert [name for name in names if not (ROOT / name).exists()] == []


@every_document
def test_commands_load_their_recipes(document: Path) -> None:
    for stage, recipe, overrides in stage_commands(document):
        assert isinstance(load(STAGES[stage], ROOT / recipe, overrides), STAGES[stage])


def is_refused(stage: str, key: str, override: str, recipe: Path) -> bool:
    """Return whether a stage has a key and refuses its value, in an override of a recipe."""
    fields = STAGES[stage].model_fields
    given = [f"{name}={value}" for name, value in (("out", "runs/run"), ("init", "none")) if name in fields]
    try:
        load(STAGES[stage], recipe, [*given, override])
    except UserError as error:
        return f"\n  {key} = " in str(error)
    return False


@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=lambda path: path.name
)
def test_values_of_keys_in_sentences_are_possible(document: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "empty.yaml"
    recipe.write_text("")
    keys = {stage: {key for key, _ in all_fields(cls)} for stage, cls in STAGES.items()}
    wrong = []
    for words in re.findall(r"`((?:[a-z_.]+=[^`\s<]+ ?)+)`", text_of(document)):
        for override in shlex.split(words):
            key = override.partition("=")[0]
            stages = [stage for stage in STAGES if key in keys[stage]]
            if stages and all(is_refused(stage, key, override, recipe) for stage in stages):
                wrong.append(override)
    assert wrong == []


def test_commands_are_found() -> None:
    assert {stage for document in DOCUMENTS for stage, _, _ in stage_commands(document)} >= {
        "pretrain",
        "finetune",
        "common.evaluation linear",
        "common.evaluation knn",
        "common.evaluation probe",
        "common.evaluation tokens",
    }


@pytest.mark.parametrize("document", ["studies.md", "your_own_data.md"])
def test_example_studies_are_valid(document: str) -> None:
    examples = [
        yaml.safe_load(block) for block in blocks(ROOT / "docs" / document, "yaml") if block.startswith("name:")
    ]
    assert examples
    for example in examples:
        build_study(example, document)


def test_every_recipe_is_listed() -> None:
    files = [path for path in (ROOT / "recipes").rglob("*.yaml") if "studies" not in path.parts]
    text = text_of(ROOT / "docs" / "recipes.md")
    assert files and [str(path) for path in files if path.name not in text] == []


def test_every_study_is_listed() -> None:
    text = text_of(ROOT / "docs" / "studies.md")
    names = [path.stem for path in (ROOT / "recipes" / "studies").glob("*.yaml")]
    assert (
        names
        and [name for name in names if f"`{name}`" not in text and f"`_{name.rpartition('_')[2]}`" not in text] == []
    )


@pytest.mark.parametrize("document", ["docs/reliability.md"])
def test_tests_named_in_documents_exist(document: str) -> None:
    ids = named_tests(ROOT / document)
    assert len(ids) >= 30
    functions = {
        file: {
            node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)
        }
        for file in {name.partition("::")[0] for name in ids}
    }
    assert [name for name in ids if name.partition("::")[2] not in functions[name.partition("::")[0]]] == []


def test_every_row_of_the_fault_tables_names_its_test() -> None:
    tables = re.findall(r"^\| fault \|.*\n\|[-|]+\n((?:\|.*\n)+)", text_of(ROOT / "docs/reliability.md"), re.MULTILINE)
    rows = [row for table in tables for row in table.splitlines()]
    assert len(rows) >= 100 and [row for row in rows if "::test_" not in row] == []
