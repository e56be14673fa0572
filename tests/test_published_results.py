"""Numbers of the documents are those that the present code computes from the stored results."""

import re
from pathlib import Path

import pytest

from recipes.publish.command import FIGURE, refresh, results_folder
from recipes.publish.documents import blocks_in, find_documents, outside_of_blocks
from recipes.publish.figure_files import figure_file

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results.md"
FIRST_EDITION = "## Measured with the first edition"


def blocks() -> set[tuple[str, str]]:
    """Return (study, part) of every block of the documents."""
    return {block for path in find_documents(ROOT) for block in blocks_in(path.read_text(encoding="utf-8"), path)}


def test_documents_are_those_of_the_present_code() -> None:
    """If it fails: `python -m recipes publish`, and look at what changed before committing it."""
    assert refresh(ROOT, write=False) == []


def test_answer_origin_and_figure_of_the_quick_start_are_published() -> None:
    readme = blocks_in((ROOT / "README.md").read_text(encoding="utf-8"), ROOT / "README.md")
    assert ("quickstart", "figure:accuracy") in readme
    results = set(blocks_in(RESULTS.read_text(encoding="utf-8"), RESULTS))
    assert {("quickstart", part) for part in ("answer", "origin", "accuracies", "claims")} <= results


def test_every_stored_study_is_in_a_document_with_its_origin() -> None:
    stored = {path.name for path in results_folder(ROOT).iterdir()}
    assert stored and {study for study, part in blocks() if part == "origin"} == stored


def test_every_published_figure_is_in_a_document() -> None:
    drawn = {figure_file(ROOT, study, part.removeprefix(FIGURE)) for study, part in blocks() if part.startswith(FIGURE)}
    assert drawn and set((ROOT / "docs" / "figures").glob("*.svg")) == drawn


@pytest.mark.parametrize("part", [0, 1])
def test_prose_of_the_results_has_no_number(part: int) -> None:
    """Before the first edition's heading, numbers are in blocks; after it, nothing is claimed to be checked."""
    text = RESULTS.read_text(encoding="utf-8")
    assert text.count(FIRST_EDITION) == 1
    halves = [outside_of_blocks(half) for half in text.split(FIRST_EDITION)]
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)|CIFAR-10|DINOv2|[Tt]ables? \d+", "", halves[part])
    assert bool(re.search(r"\d", prose)) is bool(part)


def test_stored_results_are_small_and_name_no_folder_of_a_machine() -> None:
    files = [path for path in results_folder(ROOT).rglob("*") if path.is_file()]
    assert files and sum(path.stat().st_size for path in files) < 2_000_000
    foreign = re.compile(r"(?<![\w.])/(?:tmp|home|root|work|Users|mnt)/")
    assert [path.name for path in files if foreign.search(path.read_text(encoding="utf-8"))] == []
