"""Published tables: values and stems are valid, and a row of a study finds its published row whatever the format of its numbers."""

import math
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from common.models.stem_registry import parse_stem, stem_problems
from common.yaml_text import read_yaml
from recipes.study.published import PAPERS, PublishedRow, PublishedTable, entries_match, load_published_table

TABLES: dict[str, Any] = read_yaml(PAPERS.read_text(encoding="utf-8"))
ROWS = [(name, row) for name, table in TABLES.items() for row in table.get("rows", [])]


def test_every_table_of_the_scaled_relu_paper_is_in_the_file() -> None:
    assert {int(name.removeprefix("scaled_relu_table")[0]) for name in TABLES if "_table" in name} == set(range(1, 8))
    assert sum(row.get("top1") == "crash" for _, row in ROWS) == 11


@pytest.mark.parametrize(("table", "row"), [(t, r) for t, r in ROWS if "stem" in r and "stride" in r])
def test_stems_and_strides_build(table: str, row: dict[str, Any]) -> None:
    patch_size = 8 if "volo" in table else 16
    assert math.prod(row["stride"]) == patch_size
    strides = tuple(row["stride"]) if len(row["stride"]) > 1 else None
    assert list(stem_problems(row["stem"], strides, patch_size)) == [] and parse_stem(row["stem"])


@pytest.mark.parametrize(("table", "row"), [(t, r) for t, r in ROWS if "top1" in r])
def test_values_are_percentages_or_a_crash(table: str, row: dict[str, Any]) -> None:
    assert row["top1"] == "crash" or 0 < row["top1"] < 100


@pytest.mark.parametrize(
    ("one", "other"),
    [(1e-3, "1e-3"), ("0.001", 0.001), ([2, 1, 1, 8], (2, 1, 1, 8)), ([16], 16), ("conv", "conv"), (5, 5.0)],
)
def test_entries_that_are_equal_in_different_formats(one: object, other: object) -> None:
    assert entries_match(one, other) and entries_match(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1e-3, 5e-4), ([2, 1, 1, 8], [2, 2, 2, 2]), ([2, 1], [2, 1, 1]), ("conv", "patchify"), (True, 1), (None, 0)],
)
def test_entries_that_differ(one: object, other: object) -> None:
    assert not entries_match(one, other) and not entries_match(other, one)


def test_a_row_is_found_by_its_columns_and_keeps_its_value() -> None:
    table = load_published_table("scaled_relu_table1")
    row = table.find({"stem": "conv", "lr": "0.0005", "optimizer": "sam", "warmup_epochs": 5}, ["top1"])
    assert row is not None and row.value("top1") == 81.5
    crash = table.find({"stem": "conv", "lr": 1e-3, "optimizer": "adamw", "warmup_epochs": 0}, ["top1"])
    assert crash is not None and crash.value("top1") == "crash" and crash.value("top5") is None


def test_an_unknown_or_ambiguous_row_is_not_found() -> None:
    table = load_published_table("scaled_relu_table1")
    assert table.find({"stem": "conv", "lr": 0.7}, ["top1"]) is None
    assert table.find({"stem": "conv"}, ["top1"]) is None


def test_columns_that_a_table_does_not_have_are_ignored() -> None:
    table = PublishedTable("one", "", (PublishedRow({"top1": 77.0}, frozenset()),))
    row = table.find({"stem": "conv", "top1": "ours"}, ["top1"])
    assert row is not None and row.value("top1") == 77.0


def test_doubtful_values_are_marked() -> None:
    table = load_published_table("scaled_relu_table4")
    assert sum(row.doubtful == {"msmt17_rank1"} for row in table.rows) == 3


def test_the_error_for_an_unknown_table_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="report.table = scaled_relu_tabel1: .*scaled_relu_table1"):
        load_published_table("scaled_relu_tabel1")


def test_every_table_of_the_file_loads() -> None:
    names = [line.partition(":")[0] for line in Path(PAPERS).read_text().splitlines() if line[:1].isalpha()]
    assert len([load_published_table(name) for name in names]) == len(names) > 10
