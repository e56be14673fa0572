"""Axes: levels, settings and columns of each form, and errors."""

from typing import Any

import pytest

from recipes.study.axes import build_axis
from recipes.study.specification import Axis


def build(entry: dict[str, Any]) -> Axis:
    """Return a valid axis."""
    problems: list[str] = []
    axis = build_axis("row", entry, problems)
    assert problems == []
    return axis


def errors(entry: dict[str, Any]) -> str:
    """Return the errors of an invalid axis."""
    problems: list[str] = []
    build_axis("row", entry, problems)
    return "\n".join(problems)


ROWS = [{"stem": "conv", "stride": [2, 1, 1, 8], "lr": 1e-3, "optimizer": "sam", "top1": 81.7}]
KEYS = {
    "stem": "model.stem",
    "stride": ["model.stem_strides"],
    "lr": ["pretrain.optim.lr", "finetune.optim.lr"],
    "optimizer": {"sam": {"optim.name": "sam", "optim.base": "adamw"}},
}


def test_a_row_sets_keys_by_column_and_keeps_its_columns() -> None:
    axis = build({"rows": ROWS, "keys": KEYS})
    assert axis.levels == {
        "conv-[2, 1, 1, 8]-0.001-sam": {
            "model.stem": "conv",
            "model.stem_strides": [2, 1, 1, 8],
            "pretrain.optim.lr": 1e-3,
            "finetune.optim.lr": 1e-3,
            "optim.name": "sam",
            "optim.base": "adamw",
        }
    }
    assert list(axis.columns.values()) == [{k: ROWS[0][k] for k in ("stem", "stride", "lr", "optimizer")}]


def test_rows_can_be_those_of_a_published_table() -> None:
    axis = build({"table": "scaled_relu_table7", "keys": {"fraction": "data.fraction"}})
    assert [settings["data.fraction"] for settings in axis.levels.values()] == [n / 10 for n in range(1, 11)]


def test_a_column_without_keys_is_only_a_column() -> None:
    axis = build({"rows": [{"stem": "conv", "family": "ours"}], "keys": {"stem": "model.stem", "family": None}})
    assert axis.levels == {"conv": {"model.stem": "conv"}}
    assert axis.columns == {"conv": {"stem": "conv", "family": "ours"}}


def test_a_random_search_has_numbered_levels_of_factors() -> None:
    axis = build({"draws": 12, "seed": 1, "factors": {"optim.lr": [0.1, 10]}})
    assert list(axis.levels) == [f"{number:02d}" for number in range(12)]
    assert all(0.1 <= factors["optim.lr"] <= 10 for factors in axis.factors.values())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"rows": ROWS}, "must have one of these forms"),
        ({"table": "scaled_relu_table8", "keys": KEYS}, "no such published table. Did you mean scaled_relu_table"),
        ({"rows": ROWS, "keys": {"warmup": "optim.warmup_epochs"}}, "row 1 has no warmup"),
        ({"rows": ROWS * 2, "keys": KEYS}, "row 2 repeats an earlier row"),
        ({"rows": ROWS, "keys": {"optimizer": {"adamw": {}}}}, "has no entry for sam, only for adamw"),
        ({"rows": [], "keys": KEYS}, "must be a list of rows"),
        ({"draws": 0, "keys": {"lr": [1, 2]}}, "draws must be a number of points of at least 1"),
        ({"draws": 2, "keys": {"lr": [2, 1]}}, r"must be [low, high] with 0 < low < high"),
        ({"draws": 2, "keys": {"lr": 3}}, r"must be [low, high] with 0 < low < high"),
        ({"key": "lr", "values": []}, "needs a key, or a list of keys, and a list of values"),
        ({"key": "lr", "values": [0.1, 1, 0.10]}, "axes.row.values: 0.1 is there twice. Remove one of them."),
        ({"key": "lr", "values": [1e-3, 0.001]}, "axes.row.values: 0.001 is there twice"),
        ({"key": "lr", "values": [0.3333333, 0.3333334]}, "0.3333333 and 0.3333334 have the same name, 0.333333"),
        ({"levels": {"a": 3}}, "must be a mapping of recipe keys to values"),
        ({"key": "lr", "valeus": [1]}, "Did you mean values?"),
    ],
)
def test_the_error_names_what_is_wrong_with_an_axis(entry: dict[str, Any], message: str) -> None:
    assert message in errors(entry)
