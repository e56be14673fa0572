"""A part of a study by its levels: a study of its own, whose runs are those of the whole one."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.errors import UserError
from recipes.arguments import parse
from recipes.command_words import tune_command
from recipes.publish.planned_now import plan_now
from recipes.stages import resolve_by_config
from recipes.study.command import run_command
from recipes.study.cost import RunCosts
from recipes.study.full_plan import make_full_plan, measure_with
from recipes.study.kept_levels import find_kept, kept_study, name_of_part, parse_levels
from recipes.study.plan import Plan, make_plan
from recipes.study.report_specification import Figure, ReportSpec, TableReportSpec
from recipes.study.specification import Axis, Study
from recipes.study.stored_plan import check_folder, read_plan, write_plan
from recipes.study.study_file import find_study, load_study

QUICKSTART = find_study("quickstart")


def full_plan(study: Study) -> Plan:
    return make_full_plan(study, resolve_by_config, measure_with(RunCosts(None)))


@pytest.mark.parametrize("words", [["fraction=0.1"], ["stem=conv", "fraction=1"], ["seed=0,2"], ["training=OST,TST"]])
def test_the_runs_of_a_part_are_those_of_the_whole(words: list[str]) -> None:
    whole = full_plan(load_study(QUICKSTART))
    levels = {axis: names for axis, _, names in (word.partition("=") for word in words)}
    expected = [
        cell for cell in whole.cells if all(float_or_text(cell.levels[axis]) in wanted(levels[axis]) for axis in levels)
    ]
    part = full_plan(load_study(QUICKSTART, levels=parse_levels(words)))
    assert [(cell.levels, cell.runs) for cell in part.cells] == [(cell.levels, cell.runs) for cell in expected]
    assert {run.id for run in part.runs} <= {run.id for run in whole.runs}


def wanted(names: str) -> set[Any]:
    return {float_or_text(name) for name in names.split(",")}


def float_or_text(name: str) -> Any:
    try:
        return float(name)
    except ValueError:
        return name


def test_levels_of_one_axis_may_be_given_several_times() -> None:
    found = parse_levels(["stem=conv", "seed=0, 1", "seed=2"])
    assert {axis: list(map(str, names)) for axis, names in found.items()} == {"stem": ["conv"], "seed": ["0", "1", "2"]}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("strides=2,2", ["2,2"]),
        ("strides=2", ["2"]),
        ("strides=2,[2, 1, 1]", ["2", "[2, 1, 1]"]),
        ("strides=2,2,[2, 1, 1]", []),
    ],
)
def test_levels_whose_names_have_commas(word: str, expected: list[str]) -> None:
    problems: list[str] = []
    axis = Axis("strides", {name: {} for name in ("2,1,1", "2,2", "2", "[2, 1, 1]")})
    report = TableReportSpec(None, {"top1": "test_top1"}, "seed", Figure("rows", None, None), (), {}, ())
    kept = find_kept(parse_levels([word]), {"strides": axis}, report, problems)
    assert not problems and list(kept["strides"]) == (expected or ["2", "[2, 1, 1]"])


@pytest.mark.parametrize("word", ["fraction", "fraction=", "=0.1", "fraction=0.1,,1"])
def test_what_is_no_level_is_an_error(word: str) -> None:
    with pytest.raises(UserError, match=f"--levels {word}: must be an axis and some of its levels"):
        parse_levels([word])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fraction=0.2"], r"levels\.fraction = 0\.2: no such level.* fraction has 0\.1, 1"),
        (["fractoin=0.1"], r"levels\.fractoin: no such axis\. Did you mean fraction\?"),
        (["training=TST"], r"levels\.training: the report compares OST and TST\. Keep both"),
    ],
)
def test_levels_that_cannot_be_left_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_study(QUICKSTART, levels=parse_levels(words))


def test_rows_of_a_table_are_kept_by_their_columns() -> None:
    levels = parse_levels(["optimizer=sam", "seed=0"])
    whole, part = (
        full_plan(load_study(find_study("scaled_relu_table1"), scale="digits", levels=each)) for each in ({}, levels)
    )
    expected = [cell for cell in whole.cells if "-sam-" in cell.levels["row"] and cell.levels["seed"] == "0"]
    assert [cell.levels for cell in part.cells] == [cell.levels for cell in expected] and expected


def test_one_stem_alone_is_a_study_of_pre_training_with_it() -> None:
    study = load_study(QUICKSTART, levels=parse_levels(["stem=conv"]))
    report = kept_study(study).report
    assert isinstance(report, ReportSpec) and report.compare == {"training": ("OST", "TST")}


def more_arms(study_file: Path) -> Path:
    """Add to a study an arm that one stem has, and that spends most, with claims of its own."""
    mapping = yaml.safe_load(study_file.read_text()) | {
        "without": [{"stem": "conv", "training": "more"}],
        "match": "none",
    }
    mapping["axes"]["training"]["levels"]["more"] = {
        "starts_from": {"finetune": "pretrain"},
        "set": {"finetune.train.epochs": 900},
    }
    mapping["report"]["starts"] = ["more"]
    study_file.write_text(yaml.safe_dump(mapping, sort_keys=False))
    return study_file


def test_an_arm_that_is_left_out_has_no_claims_and_no_entry_of_without(study_file: Path) -> None:
    file = more_arms(study_file)
    whole, part = load_study(file), load_study(file, levels=parse_levels(["training=OST,TST"]))
    assert whole.without and whole.report.starts == ("more",)  # type: ignore[union-attr]
    kept = kept_study(part)
    assert kept.without == () and kept.report.starts == () and list(kept.axes[1].levels) == ["OST", "TST"]  # type: ignore[union-attr]


def test_an_arm_that_is_left_out_does_not_change_what_the_others_may_spend(tmp_path: Path) -> None:
    mapping = yaml.safe_load(QUICKSTART.read_text())
    del mapping["tune"]
    long = {"set": {"pretrain.train.epochs": 200}, "starts_from": {"finetune": "pretrain"}}
    mapping["axes"]["training"]["levels"]["long"] = long
    (tmp_path / "long.yaml").write_text(yaml.safe_dump(mapping, sort_keys=False))
    whole = full_plan(load_study(tmp_path / "long.yaml", seeds=(0,)))
    part = full_plan(load_study(tmp_path / "long.yaml", seeds=(0,), levels=parse_levels(["training=OST,TST"])))
    assert {run.id for run in part.runs} < {run.id for run in whole.runs} and len(part.cells) == 8


def test_rows_that_do_not_go_together_are_an_error() -> None:
    with pytest.raises(UserError, match="levels: no row of row has optimizer=sam and lr=0.0005 and warmup_epochs=20"):
        levels = parse_levels(["optimizer=sam", "lr=0.0005", "warmup_epochs=20"])
        load_study(find_study("scaled_relu_table1"), scale="digits", levels=levels)


def test_claims_about_rows_that_are_left_out_are_counted_in_a_note() -> None:
    study = load_study(find_study("scaled_relu_table1"), scale="digits", levels=parse_levels(["optimizer=sam"]))
    report = kept_study(study).report
    assert isinstance(report, TableReportSpec) and isinstance(study.report, TableReportSpec)
    left_out = len(study.report.pairs) - len(report.pairs)
    assert all(pair.base["optimizer"] == "sam" == pair.other["optimizer"] for pair in report.pairs)
    assert left_out > 0 and report.notes[-1] == f"{left_out} claims are about levels that were not run (levels)."


def test_a_sized_study_has_no_parts() -> None:
    with pytest.raises(UserError, match="levels = .*: my_images is sized to its images, all of it"):
        load_study(find_study("my_images"), levels=parse_levels(["stem=conv"]))


def test_levels_of_the_command_line_are_added_to_those_of_the_file(study_file: Path) -> None:
    study_file.write_text(study_file.read_text() + "levels: {fraction: [0.1], stem: [conv]}\n")
    assert load_study(study_file).kept == {"fraction": ("0.1",), "stem": ("conv",)}
    study = load_study(study_file, levels=parse_levels(["stem=patchify"]))
    assert study.kept == {"fraction": ("0.1",), "stem": ("patchify",)}


def test_a_part_has_a_folder_of_its_own(study_file: Path, tmp_path: Path) -> None:
    plans = [
        make_plan(load_study(study_file, levels=parse_levels(words)), lambda *_: {}) for words in ([], ["stem=conv"])
    ]
    assert [name_of_part(plan.study.mapping) for plan in plans] == ["", "stemconv"]
    write_plan(plans[0], tmp_path)
    with pytest.raises(UserError, match="contains all of known, not the part stemconv of known"):
        check_folder(plans[1], tmp_path)


def test_commands_name_the_levels(tmp_path: Path) -> None:
    words = ["tune", "quickstart", "--levels", "fraction=0.1", "--levels", "stem=conv,patchify"]
    assert tune_command(words) == shlex.join(["python", "-m", "recipes", *words])
    study = load_study(QUICKSTART, levels=parse_levels(words[3::2]))
    command = ["run", "quickstart", "--levels", "fraction=0.1", "--levels", "stem=conv,patchify"]
    assert run_command(study) == ["python", "-m", "recipes", *command]
    assert parse(command).levels == words[3::2]
    plan = full_plan(study)
    write_plan(plan, tmp_path)
    stored = read_plan(tmp_path)
    assert run_command(stored.study) == run_command(study)
    assert {run.id for run in stored.runs} == {run.id for run in plan.runs}


def test_a_part_has_the_choices_of_the_whole_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from recipes.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main(["plan", "quickstart"]) == 0
    whole = capsys.readouterr().out
    assert main(["plan", "quickstart", "--levels", "fraction=0.1"]) == 0
    part = capsys.readouterr().out
    assert "choices/quickstart.yaml, so that no tuning is needed" in part
    runs = [line for line in part.splitlines() if line.startswith("waiting")]
    assert len(runs) == 6 + 12 + 15 and set(runs) < set(whole.splitlines())


def test_a_stored_part_is_planned_as_a_part(tmp_path: Path) -> None:
    plan = full_plan(load_study(QUICKSTART, ("tune=none",), levels=parse_levels(["fraction=0.1"])))
    assert {run.id for run in plan_now(plan).runs} == {run.id for run in plan.runs}


def test_names_of_folders_have_no_brackets() -> None:
    assert (
        name_of_part({"levels": parse_levels(["stride=[2, 1, 1, 8]", "fraction=0.1,1"])})
        == "stride_2_1_1_8__fraction0.1-1"
    )
    assert name_of_part({}) == name_of_part({"levels": {}}) == ""


def test_a_study_of_ours_is_named_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = load_study(find_study("quickstart"))
    assert Path(study.source).is_absolute() and run_command(study) == ["python", "-m", "recipes", "run", "quickstart"]
