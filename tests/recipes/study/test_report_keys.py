"""Keys of a study file that only the report reads: `report.starts`, `.skipped`, `.pairs` and `.metrics`, and `sizing`."""

from typing import Any

import pytest
from starts_study import starts_mapping

from common.errors import UserError
from recipes.study.report_specification import ReportSpec, TableReportSpec
from recipes.study.stated_choice import StatedChoice
from recipes.study.study_file import build_study


def error_message(**report: Any) -> str:
    """Return the error message for the study of four starts with some keys of `report`."""
    mapping = starts_mapping()
    mapping["report"] |= report
    with pytest.raises(UserError) as caught:
        build_study(mapping, "starts.yaml")
    return str(caught.value)


def test_starts_are_levels_of_the_first_compared_axis() -> None:
    spec = build_study(starts_mapping(with_report=True), "starts.yaml").report
    assert isinstance(spec, ReportSpec) and spec.starts == ("public", "continued") and spec.skipped == ()


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (["pubic"], "report.starts = pubic: must be a level of training besides those that are compared. Did you mean"),
        (["TST"], "report.starts = TST: must be a level of training besides those that are compared. It has public,"),
        (["public", "public"], "report.starts = public: is there twice."),
        (["public", "continued", "TST"], "must be one or two levels."),
    ],
)
def test_other_starts_are_errors(starts: list[str], message: str) -> None:
    assert message in error_message(starts=starts)


def test_starts_need_a_combination_that_all_of_them_have() -> None:
    mapping = starts_mapping(with_report=True)
    mapping["without"] = [{"training": "public", "stem": "conv"}, {"training": "continued", "stem": "patchify"}]
    with pytest.raises(UserError, match=r"without: leaves no combination of the other axes with all of report\.starts"):
        build_study(mapping, "starts.yaml")


def test_sentences_on_what_is_skipped_are_on_one_line() -> None:
    mapping = starts_mapping()
    mapping["report"]["skipped"] = ["public: the weights\n  cannot be downloaded."]
    spec = build_study(mapping, "starts.yaml").report
    assert isinstance(spec, ReportSpec) and spec.skipped == ("public: the weights cannot be downloaded.",)


def test_sizing_has_keys_values_and_reasons() -> None:
    sizing = [
        {"key": "model.patch_size", "value": 4, "reason": "images of 32 px,\n as 64 tokens"},
        {"key": "weights", "value": "none", "reason": "no network"},
    ]
    study = build_study(starts_mapping(sizing=sizing), "starts.yaml")
    assert study.sizing == (
        StatedChoice("model.patch_size", "4", "images of 32 px, as 64 tokens"),
        StatedChoice("weights", "none", "no network"),
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"key": "lr", "value": [1], "reason": "x"}, "must be text or a number"),
        ({"key": "lr", "value": 1, "reason": ""}, "must say why"),
        ({"key": "lr", "value": 1}, "sizing.1.reason"),
    ],
)
def test_other_sizing_is_an_error(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build_study(starts_mapping(sizing=[entry]), "starts.yaml")
    assert message in str(caught.value)


AXES: dict[str, Any] = {
    "stem": {"levels": {"patchify": {"model.stem": "patchify"}, "conv": {"model.stem": "conv"}}},
    "row": {
        "rows": [{"optimizer": "adamw", "lr": 1e-3}, {"optimizer": "sgd", "lr": 0.1}],
        "keys": {"optimizer": "optim.name", "lr": "optim.lr"},
    },
    "seed": {"key": "train.seed", "values": [0, 1, 2]},
}


def table_mapping(base: dict[str, Any], other: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a study of two stems and two rows with a claim about `base` and `other`."""
    return {
        "name": "stems",
        "question": "Which stem?",
        "stages": {"finetune": {"recipe": "finetune.yaml"}},
        "axes": AXES,
        "report": {
            "metrics": {"top1": "test_top1"},
            "repeats": "seed",
            "figure": {"kind": "rows"},
            "pairs": [{"claim": "conv is better", "base": base, "other": other}],
        },
        **changes,
    }


def test_claim_about_several_rows_is_an_error_that_names_the_columns_to_add() -> None:
    with pytest.raises(UserError) as caught:
        build_study(table_mapping({"stem": "patchify"}, {"stem": "conv", "lr": 0.1}), "stems.yaml")
    assert str(caught.value).splitlines()[1:] == [
        "  report.pairs.1.base = {stem: patchify}: matches 2 rows. Add optimizer, lr, in which they differ, as in {stem: patchify, "
        "optimizer: adamw, lr: 0.001}."
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"without": [{"stem": "patchify", "row": "sgd-0.1"}]},
        {"levels": {"optimizer": ["sgd"]}},
        {"seeds": [3, 4]} | {"axes": {name: axis for name, axis in AXES.items() if name != "row"}},
    ],
)
def test_claim_about_one_row_of_those_that_are_run_is_none(changes: dict[str, Any]) -> None:
    other = {"stem": "conv"} if "without" not in changes else {"stem": "conv", "optimizer": "sgd"}
    spec = build_study(table_mapping({"stem": "patchify"}, other, **changes), "stems.yaml").report
    assert isinstance(spec, TableReportSpec) and len(spec.pairs) == 1


def test_draws_of_a_distribution_are_no_rows_of_a_claim() -> None:
    draw = {"draws": 4, "seed": 0, "keys": {"optim.lr": [0.1, 1.0]}}
    mapping = table_mapping({"stem": "patchify"}, {"stem": "conv"}, axes={**AXES, "row": draw})
    with pytest.raises(UserError, match=r"matches 4 rows\. Add row, in which they differ"):
        build_study(mapping, "stems.yaml")
    mapping["report"]["figure"] = {"kind": "distribution", "x": "row"}
    assert isinstance(build_study(mapping, "stems.yaml").report, TableReportSpec)


def test_number_of_a_claim_that_no_float_holds_matches_no_row() -> None:
    with pytest.raises(UserError, match=r"report\.pairs\.1\.base\.lr = 10{400}: matches no row"):
        build_study(table_mapping({"stem": "conv", "lr": 10**400}, {"stem": "conv", "lr": 0.1}), "stems.yaml")


def test_claim_about_rows_with_the_same_columns_is_an_error_about_the_columns() -> None:
    rate = {"rows": [{"lr": 1}, {"lr": 2}], "keys": {"lr": "optim.warmup_epochs"}}
    base, other = ({"stem": stem, "lr": 0.1} for stem in ("patchify", "conv"))
    with pytest.raises(UserError) as caught:
        build_study(table_mapping(base, other, axes={"rate": rate, **AXES}), "stems.yaml")
    assert (
        "report.pairs.1.base = {stem: patchify, lr: 0.1}: matches 2 rows with the same columns, since two axes share the name of"
        " a column. Rename it in one of them." in str(caught.value)
    )


DISTRIBUTION = {
    "axes": {
        "stem": AXES["stem"],
        "draw": {"draws": 4, "seed": 0, "keys": {"optim.lr": [0.1, 1.0]}},
        "seed": AXES["seed"],
    }
}


def distribution_mapping(metric: Any) -> dict[str, Any]:
    """Return a study of two stems and four draws whose report has a distribution of a metric."""
    mapping = table_mapping({"stem": "patchify"}, {"stem": "conv"}, **DISTRIBUTION)
    mapping["report"] |= {
        "figure": {"kind": "distribution", "x": "draw"},
        "metrics": {"top1": "test_top1", "m": metric},
    }
    return mapping


@pytest.mark.parametrize(
    "metric", ["test_loss", "test_ece", "similarity", {"metric": "validation_subset_loss", "at": 0.5}, "my_score"]
)
def test_distribution_of_a_metric_without_an_error_is_refused(metric: Any) -> None:
    name = metric if isinstance(metric, str) else metric["metric"]
    with pytest.raises(UserError) as caught:
        build_study(distribution_mapping(metric), "stems.yaml")
    assert str(caught.value).splitlines()[1:] == [
        f"  report.metrics.m = {name}: a figure of kind distribution shows errors (100 - metric), for metrics in percent of which "
        "more is better. Give such a metric, such as test_top1, or choose another kind of figure."
    ]


@pytest.mark.parametrize("metric", ["test_map", "test_balanced_accuracy", {"metric": "validation_top1", "at": 0.5}])
def test_distribution_of_an_accuracy_in_percent_is_accepted(metric: Any) -> None:
    assert isinstance(build_study(distribution_mapping(metric), "stems.yaml").report, TableReportSpec)


def test_draws_of_a_distribution_are_an_axis() -> None:
    mapping = table_mapping({"stem": "patchify", "lr": 0.1}, {"stem": "conv", "lr": 0.1})
    mapping["report"]["figure"] = {"kind": "distribution", "x": "lr"}
    with pytest.raises(
        UserError, match=r"report\.figure\.x = lr: the draws must be an axis\. Give one of stem, row, seed\."
    ):
        build_study(mapping, "stems.yaml")


def test_loss_is_accepted_in_other_figures() -> None:
    mapping = table_mapping({"stem": "patchify", "lr": 0.1}, {"stem": "conv", "lr": 0.1})
    mapping["report"]["metrics"] = {"loss": "test_loss"}
    assert isinstance(build_study(mapping, "stems.yaml").report, TableReportSpec)
