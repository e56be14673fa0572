"""The papers' printed tables: every stem is a word of the grammar, every value a percentage or the papers' word crash."""

import math
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from common.models.stem_grammar import parse_stem, stem_problems

PATH = Path(__file__).resolve().parents[3] / "recipes" / "studies" / "printed" / "papers.yaml"
TABLES: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(PATH))  # type: ignore[assignment]
ROWS = [(name, row) for name, table in TABLES.items() for row in table.get("rows", [])]


def test_every_table_of_the_scaled_relu_paper_is_there() -> None:
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
