"""What the documents point to is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def named_tests(document: Path) -> list[str]:
    """Return the ids of the tests that a document names, as `tests/<file>.py::<function>`."""
    return re.findall(r"`(tests/[\w/]+\.py::\w+)`", document.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", ["docs/reliability.md"])
def test_every_test_that_a_document_names_exists(document: str) -> None:
    ids = named_tests(ROOT / document)
    assert len(ids) >= 30
    functions = {
        file: {
            node.name for node in ast.walk(ast.parse((ROOT / file).read_text())) if isinstance(node, ast.FunctionDef)
        }
        for file in {name.partition("::")[0] for name in ids}
    }
    assert [name for name in ids if name.partition("::")[2] not in functions[name.partition("::")[0]]] == []


def test_every_row_of_the_table_of_faults_names_its_test() -> None:
    lines = (ROOT / "docs/reliability.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|") and not line.startswith(("| fault", "|---", "| fuzzer"))]
    assert [row for row in rows if "::test_" not in row and not re.match(r"\| (images|recipes|runs) \|", row)] == []
