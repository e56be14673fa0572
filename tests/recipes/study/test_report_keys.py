"""Keys of a study file that only the report reads: `report.starts`, `report.skipped`, `sizing`."""

from typing import Any

import pytest
from starts_study import starts_mapping

from common.errors import UserError
from recipes.study.report_specification import ReportSpec
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
