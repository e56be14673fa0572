"""Printed values: which printed row is one of ours, whatever form its numbers have."""

from pathlib import Path

import pytest

from common.errors import UserError
from recipes.study.published import PAPERS, PrintedRow, PrintedTable, is_same, load_printed


@pytest.mark.parametrize(
    ("one", "other"),
    [(1e-3, "1e-3"), ("0.001", 0.001), ([2, 1, 1, 8], (2, 1, 1, 8)), ([16], 16), ("conv", "conv"), (5, 5.0)],
)
def test_entries_that_say_the_same_in_other_forms(one: object, other: object) -> None:
    assert is_same(one, other) and is_same(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [(1e-3, 5e-4), ([2, 1, 1, 8], [2, 2, 2, 2]), ([2, 1], [2, 1, 1]), ("conv", "patchify"), (True, 1), (None, 0)],
)
def test_entries_that_differ(one: object, other: object) -> None:
    assert not is_same(one, other) and not is_same(other, one)


def test_a_row_is_found_by_its_columns_and_keeps_its_value() -> None:
    table = load_printed("scaled_relu_table1")
    row = table.find({"stem": "conv", "lr": "0.0005", "optimizer": "sam", "warmup_epochs": 5}, ["top1"])
    assert row is not None and row.value("top1") == 81.5
    crash = table.find({"stem": "conv", "lr": 1e-3, "optimizer": "adamw", "warmup_epochs": 0}, ["top1"])
    assert crash is not None and crash.value("top1") == "crash" and crash.value("top5") is None


def test_a_row_that_is_not_printed_and_one_that_fits_several_have_no_value() -> None:
    table = load_printed("scaled_relu_table1")
    assert table.find({"stem": "conv", "lr": 0.7}, ["top1"]) is None
    assert table.find({"stem": "conv"}, ["top1"]) is None


def test_columns_that_a_table_does_not_print_do_not_count() -> None:
    table = PrintedTable("one", "", (PrintedRow({"top1": 77.0}, frozenset()),))
    row = table.find({"stem": "conv", "top1": "ours"}, ["top1"])
    assert row is not None and row.value("top1") == 77.0


def test_doubtful_values_are_marked() -> None:
    table = load_printed("scaled_relu_table4")
    assert sum(row.doubtful == {"msmt17_rank1"} for row in table.rows) == 3


def test_an_unknown_table_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match="report.table = scaled_relu_tabel1: .*scaled_relu_table1"):
        load_printed("scaled_relu_tabel1")


def test_every_table_of_the_file_loads() -> None:
    names = [line.partition(":")[0] for line in Path(PAPERS).read_text().splitlines() if line[:1].isalpha()]
    assert len([load_printed(name) for name in names]) == len(names) > 10
