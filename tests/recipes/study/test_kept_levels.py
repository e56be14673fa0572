"""A part of a study by its levels: a study of its own, whose runs are those of the whole one."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from common.errors import UserError
from recipes.arguments import parse
from recipes.command_words import tune_command
from recipes.publish.planned_now import plan_now
from recipes.stages import resolve_by_config
from recipes.study.command import run_command
from recipes.study.cost import RunCosts
from recipes.study.full_plan import make_full_plan, measure_with
from recipes.study.kept_levels import kept_levels, parse_levels
from recipes.study.plan import Plan, make_plan
from recipes.study.specification import Axis, ReportSpec, Study
from recipes.study.stored_plan import read_plan, write_plan
from recipes.study.study_file import find_study, load_study

QUICKSTART = find_study("quickstart")


def full_plan(study: Study) -> Plan:
    return make_full_plan(study, resolve_by_config, measure_with(RunCosts(None)))


@pytest.mark.parametrize("words", [["fraction=0.1"], ["stem=conv", "fraction=1"], ["seed=0,2"]])
def test_the_runs_of_a_part_are_those_of_the_whole(words: list[str]) -> None:
    whole = full_plan(load_study(QUICKSTART))
    levels = {axis: names for axis, _, names in (word.partition("=") for word in words)}
    expected = [
        cell for cell in whole.cells if all(float_or_text(cell.levels[axis]) in wanted(levels[axis]) for axis in levels)
    ]
    part = full_plan(load_study(QUICKSTART, levels=parse_levels(words)))
    assert [(cell.levels, cell.runs) for cell in part.cells] == [(cell.levels, cell.runs) for cell in expected]
    assert {run.id for run in part.runs} < {run.id for run in whole.runs}


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


def test_a_level_whose_name_has_commas_is_one() -> None:
    problems: list[str] = []
    names = ["2,1,1", "2,2", "2"]
    axis = Axis("strides", {name: {} for name in names})
    assert kept_levels(axis, names, parse_levels(["strides=2,2"]), problems) == ["2,2"]
    assert kept_levels(axis, names, parse_levels(["strides=2"]), problems) == ["2"] and not problems


@pytest.mark.parametrize("word", ["fraction", "fraction=", "=0.1", "fraction=0.1,,1"])
def test_what_is_no_level_is_an_error(word: str) -> None:
    with pytest.raises(UserError, match=f"--levels {word}: must be an axis and some of its levels"):
        parse_levels([word])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fraction=0.2"], r"levels\.fraction = 0\.2: no such level.* fraction has 0\.1, 1"),
        (["fractoin=0.1"], r"levels\.fractoin: no such axis\. Did you mean fraction\?"),
        (["training=TST"], r"report\.compare\.training = \['OST', 'TST'\]: must be two levels"),
    ],
)
def test_levels_that_cannot_be_left_are_named(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_study(QUICKSTART, levels=parse_levels(words))


def test_rows_of_a_table_are_kept_by_their_columns() -> None:
    whole = make_plan(load_study(find_study("scaled_relu_table1"), scale="digits"), lambda *_: {})
    part = make_plan(
        load_study(find_study("scaled_relu_table1"), scale="digits", levels=parse_levels(["optimizer=sam", "seed=0"])),
        lambda *_: {},
    )
    expected = [cell for cell in whole.cells if "-sam-" in cell.levels["row"] and cell.levels["seed"] == "0"]
    assert [cell.levels for cell in part.cells] == [cell.levels for cell in expected] and expected


def test_one_stem_alone_is_a_study_of_pre_training_with_it() -> None:
    study = load_study(QUICKSTART, levels=parse_levels(["stem=conv"]))
    assert isinstance(study.report, ReportSpec) and study.report.compare == {"training": ("OST", "TST")}


def test_entries_of_without_about_levels_that_are_left_out_have_no_effect(study_file: Path) -> None:
    text = study_file.read_text() + "without: [{stem: conv, training: more}]\n"
    study_file.write_text(text.replace("      OST: {}\n", "      OST: {}\n      more: {}\n"))
    whole = make_plan(load_study(study_file), lambda *_: {})
    part = make_plan(load_study(study_file, levels=parse_levels(["training=OST,TST"])), lambda *_: {})
    assert len(whole.cells) == 2 * 24 + 12 and len(part.cells) == 2 * 24


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
