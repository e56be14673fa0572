"""Choices of lengths and values on validation images: candidates, ties, divergences, convergence, and their file."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from recipes_fakes import fake_measure

from common.errors import UserError
from recipes.result import Result
from recipes.study.choice_names import misnamed
from recipes.study.choices import Choices, read_choices, write_choices
from recipes.study.full_plan import make_full_plan
from recipes.study.plan import Plan, Resolver, make_plan
from recipes.study.specification import Study
from recipes.study.stored_plan import read_plan, write_plan
from recipes.study.study_file import build_study, load_study
from recipes.study.tuning import Tuning, best, choose, doubled, level_of, make_choices, plan_tuning, with_doubled

TUNE: dict[str, Any] = {"seeds": [100, 101], "lengths": [0.25, 0.5, 1.0], "values": {"finetune.optim.lr": [1e-3, 2e-3]}}
MEASURE = fake_measure(pretrain=1000, image=50)  # budget 2,000 MACs: 40 epochs of OST, 20 of TST
Read = Callable[[str], Result | None]


def result(status: str = "finished", **metrics: float) -> Result:
    """Return a result with these metrics."""
    return Result(status, "", 1, metrics, 1.0, 1, 1.0, 1, 1, 1)


def tuned(study: Study, **changes: Any) -> Study:
    """Return the study with a section tune."""
    return build_study({**study.mapping, "tune": {**TUNE, **changes}}, "known.yaml")


def reader(tuning: Tuning, value: Callable[[Mapping[str, str], dict[str, str]], Result | None]) -> Read:
    """Return a function that reads the result of a run, made from its levels and overrides."""
    results = {
        run.id: value(run.levels, dict(word.split("=", 1) for word in run.overrides)) for run in tuning.plan.runs
    }
    return lambda name: results[name]


@pytest.fixture
def tuning(study: Study, echo_config: Resolver) -> Tuning:
    """Return the tuning of `STUDY`."""
    return plan_tuning(tuned(study), echo_config, MEASURE)


def top1(value: float) -> Result:
    """Return the result of a run with this accuracy on validation images."""
    return result(validation_subset_top1=value, validation_top1=value)


def test_every_arm_has_the_same_number_of_candidates_on_seeds_that_are_not_reported(tuning: Tuning) -> None:
    assert len(tuning.arms) == 2 * 2 * 4
    runs = [run for run in tuning.plan.runs if run.stage == "finetune"]
    assert len(runs) == 16 * 6 * 2
    assert {run.levels["seed"] for run in tuning.plan.runs} == {"100", "101"}
    assert sum(run.stage == "pretrain" for run in tuning.plan.runs) == 2 * 2


def test_lengths_are_parts_of_the_arms_own_budget(tuning: Tuning) -> None:
    epochs = {
        training: sorted({tuning.epochs(("conv", training, "0.5"), length) for length, _ in tuning.points})
        for training in ("OST", "TST")
    }
    assert epochs == {"OST": [10, 20, 40], "TST": [5, 10, 20]}
    settings = tuning.settings(("conv", "OST", "0.5"), (0.25, (("optim.lr", 2e-3),)))
    assert settings["train.epochs"] == 10 and settings["optim.lr"] == 2e-3
    assert settings["optim.warmup_epochs"] == 1.0  # 2 of 20 epochs as written


def test_the_tuning_runs_train_with_the_settings_of_their_candidate(tuning: Tuning) -> None:
    (run,) = [
        run
        for run in tuning.plan.runs
        if run.levels.items() >= {"stem": "conv", "training": "OST", "fraction": "0.5", "seed": "101"}.items()
        and run.levels["candidate"] == "0.5-0.002"
    ]
    words = dict(word.split("=") for word in run.overrides)
    assert words.items() >= {"train.epochs": "20", "optim.lr": "0.002", "train.seed": "101"}.items()
    assert "candidate0.5_0.002" in run.id


def test_the_highest_mean_over_the_seeds_wins(tuning: Tuning) -> None:
    values = {"0.25-0.001": (80, 80), "0.5-0.002": (90, 74), "1-0.001": (81, 82)}  # means 80, 82, 81.5

    def value(levels: Mapping[str, str], words: dict[str, str]) -> Result:
        return top1(values.get(levels.get("candidate", ""), (0, 0))[levels["seed"] == "101"])

    means = choose(tuning, reader(tuning, value))
    assert {level_of(best(arm) or (0, ())) for arm in means.values()} == {"0.5-0.002"}


def test_ties_go_to_the_shorter_length_then_to_the_earlier_value(tuning: Tuning) -> None:
    means = choose(tuning, reader(tuning, lambda levels, words: top1(80.0)))
    assert {level_of(best(arm) or (0, ())) for arm in means.values()} == {"0.25-0.001"}


def test_lengths_are_preferred_in_ascending_order_whatever_their_order_in_the_file(
    study: Study, echo_config: Resolver
) -> None:
    tuning = plan_tuning(tuned(study, lengths=[1.0, 0.5]), echo_config, MEASURE)
    means = choose(tuning, reader(tuning, lambda levels, words: top1(80.0)))
    assert {level_of(best(arm) or (0, ())) for arm in means.values()} == {"0.5-0.001"}


@pytest.mark.parametrize("lost", [result("diverged", validation_subset_top1=99.0), None])
def test_a_candidate_with_a_diverged_run_loses(tuning: Tuning, lost: Result | None) -> None:
    def value(levels: Mapping[str, str], words: dict[str, str]) -> Result | None:
        return lost if levels.get("candidate", "").startswith("1-") and levels["seed"] == "100" else top1(50.0)

    read = reader(tuning, value)
    means = choose(tuning, read)[("conv", "OST", "0.5")]
    assert [mean for point, mean in means.items() if point[0] == 1.0] == [None, None]
    assert level_of(best(means) or (0, ())) == "0.25-0.001"


def test_if_every_candidate_diverged_the_recipe_stays_and_is_marked(tuning: Tuning) -> None:
    read = reader(tuning, lambda levels, words: result("diverged"))
    choice = make_choices(tuning, read, "command").of({"stem": "conv", "training": "OST", "fraction": "0.5"})
    assert choice is not None
    assert (choice.metric, choice.gain, choice.converged) == (None, None, None)
    assert choice.settings["finetune.train.epochs"] == 40 and "finetune.optim.lr" not in choice.settings


def choices_of(
    tuning: Tuning, resolve: Resolver, accuracy: Callable[[dict[str, str]], float]
) -> tuple[Tuning, Choices]:
    """Return the choices of runs whose accuracy on validation images is a function of their overrides, and all tuning runs."""
    read = reader(tuning, lambda levels, words: top1(accuracy(words)))
    chosen = {arm: point for arm, means in choose(tuning, read).items() if (point := best(means))}
    tuning = with_doubled(tuning, chosen, resolve)
    return tuning, make_choices(tuning, reader(tuning, lambda levels, words: top1(accuracy(words))), "command")


def test_twice_the_epochs_are_the_run_of_a_candidate_where_there_is_one(tuning: Tuning, echo_config: Resolver) -> None:
    doubled_tuning, choices = choices_of(tuning, echo_config, lambda words: 80.0)
    assert {run.id for run in doubled_tuning.plan.runs} == {run.id for run in tuning.plan.runs}
    assert {(choice.length, choice.gain, choice.converged) for choice in choices.choices} == {(0.25, 0.0, True)}


@pytest.mark.parametrize(("points_per_epoch", "converged"), [(0.04, True), (0.1, False)])
def test_an_arm_converged_if_twice_the_epochs_gain_less_than_a_point(
    tuning: Tuning, echo_config: Resolver, points_per_epoch: float, converged: bool
) -> None:
    def accuracy(words: dict[str, str]) -> float:
        return 50 + points_per_epoch * int(words.get("train.epochs", 0))

    more, choices = choices_of(tuning, echo_config, accuracy)
    new = {run.id for run in more.plan.runs} - {run.id for run in tuning.plan.runs}
    assert len(new) == 16 * 2
    choice = choices.of({"stem": "conv", "training": "TST", "fraction": "1", "seed": "0"})
    assert choice is not None and choice.length == 1.0
    assert choice.gain == pytest.approx(20 * points_per_epoch)
    assert choice.converged == converged
    run = next(run for run in more.plan.runs if run.id in new and run.levels["training"] == "TST")
    assert "train.epochs=40" in run.overrides and run.needs is not None


def test_a_length_that_is_no_candidate_is_exactly_twice_the_chosen_one(study: Study, echo_config: Resolver) -> None:
    measure = fake_measure(pretrain=0, image=50, epochs=10)
    tuning = plan_tuning(tuned(study, lengths=[0.25]), echo_config, measure)
    arm, point = ("conv", "TST", "1"), tuning.points[0]
    assert tuning.epochs(arm, point[0]) == 2
    assert tuning.epochs(arm, doubled(point)[0]) == 4


def test_a_metric_that_the_runs_do_not_have_is_an_error(tuning: Tuning) -> None:
    read = reader(tuning, lambda levels, words: result(validation_top1=1.0, test_top1=2.0))
    message = r"tune\.metric = validation_subset_top1: .* has no such metric\..* It has validation_top1\."
    with pytest.raises(UserError, match=message):
        choose(tuning, read)


def test_a_stage_without_the_convergence_metric_has_no_gain(study: Study, echo_config: Resolver) -> None:
    tuning = plan_tuning(tuned(study, metric="validation_map"), echo_config, MEASURE)
    read = reader(tuning, lambda levels, words: result(validation_map=0.5))
    assert {choice.converged for choice in make_choices(tuning, read, "command").choices} == {None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "test_top1"}, "tune.metric: test_top1: must be a metric of the validation images"),
        ({"metric": "knn_top1"}, "tune.metric: knn_top1: must be a metric of the validation images"),
        ({"metric": "validation_loss"}, "tune.metric: validation_loss: must be a metric of which more is better"),
        ({"seeds": [100, 2]}, "tune.seeds = 2: is reported (seed = 0, 1, 2). Choose a seed that is not."),
        ({"seeds": []}, "tune.seeds: [] is empty: give a seed that is not reported."),
        ({"lengths": [0.5, 2.0]}, "must lie in (0, 1]: it is a part of the epochs"),
        ({"values": {"optim.lr": [1e-3]}}, "tune.values.optim.lr: must be a key of the last stage"),
        ({"values": {"pretrain.optim.lr": [1e-3]}}, "tune.values.pretrain.optim.lr: must be a key of the last stage"),
        ({"values": {"finetune.train.epochs": [3]}}, "lengths has the candidates of the epochs"),
        ({"seeds": [100, 100]}, "tune.seeds: 100 is there twice. Remove one of them."),
        ({"lengths": [0.5, 0.50]}, "tune.lengths: 0.5 is there twice"),
        ({"lengths": [0.3333333, 0.3333334]}, "tune.lengths: 0.3333333 and 0.3333334 have the same name"),
        ({"values": {"finetune.optim.lr": [1e-3, 0.001]}}, "tune.values.finetune.optim.lr: 0.001 is there twice"),
        ({"values": {"finetune.optim.lr": []}}, "is empty: give at least one value"),
    ],
)
def test_invalid_sections_are_refused(study: Study, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        tuned(study, **changes)
    assert message in str(caught.value)


def test_an_axis_with_the_name_of_that_of_the_candidates_is_refused(study: Study) -> None:
    mapping = copy.deepcopy(dict(study.mapping))
    mapping["axes"]["candidate"] = mapping["axes"].pop("stem")
    mapping["report"]["compare"]["candidate"] = mapping["report"]["compare"].pop("stem")
    with pytest.raises(UserError, match=r"axes\.candidate: is the name of the axis of tune's candidates"):
        build_study({**mapping, "tune": TUNE}, "known.yaml")


def test_an_override_of_a_key_with_candidates_is_refused(study_file: Path) -> None:
    study_file.write_text(study_file.read_text() + "tune: {seeds: [7], values: {finetune.optim.lr: [1.0e-3]}}\n")
    with pytest.raises(UserError, match=r"finetune\.optim\.lr: tune\.values has candidates for it"):
        load_study(study_file, ("finetune.optim.lr=3e-3",))
    with pytest.raises(UserError, match=r"tune\.seeds = 7: is reported"):
        load_study(study_file, seeds=(6, 7))


def test_the_command_line_turns_tuning_off(study_file: Path) -> None:
    study_file.write_text(study_file.read_text() + "tune: {seeds: [7]}\n")
    assert load_study(study_file).tune is not None
    assert load_study(study_file, ("tune=none",)).tune is None


def test_choices_are_read_as_they_were_written(tuning: Tuning, echo_config: Resolver, tmp_path: Path) -> None:
    _, choices = choices_of(tuning, echo_config, lambda words: 80.0)
    write_choices(choices, tmp_path / "choices" / "known.yaml")
    assert read_choices(tmp_path / "choices" / "known.yaml") == choices
    text = (tmp_path / "choices" / "known.yaml").read_text()
    assert text.startswith("# ") and "command: command\n" in text
    assert read_choices(tmp_path / "nowhere.yaml") is None


@pytest.mark.parametrize("text", ["", "[1", "a: 1", "- 1", "choices: 3", "digest: x\nchoices: [{levels: 3}]", "\0"])
def test_a_damaged_file_of_choices_is_one_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "choices.yaml").write_text(text)
    with pytest.raises(UserError, match=r"choices\.yaml: does not hold the choices of a study .*Delete it"):
        read_choices(tmp_path / "choices.yaml")


def test_the_digest_is_that_of_everything_the_choices_depend_on(study: Study, echo_config: Resolver) -> None:
    def digest(mapping: Mapping[str, Any] = study.mapping, **changes: Any) -> str:
        changed = build_study({**mapping, "tune": {**TUNE, **changes}}, "known.yaml")
        return plan_tuning(changed, echo_config, MEASURE).digest

    recipe = copy.deepcopy(dict(study.mapping))
    recipe["stages"]["pretrain"]["set"] = {"dino.out_dim": 64}
    others = [
        digest(recipe),
        digest({**study.mapping, "match": "none"}),
        digest(lengths=[0.5, 1.0]),
        digest(values={}),
        digest(metric="validation_top1"),
        digest(seeds=[100]),
    ]
    assert len({digest(), *others}) == 7
    assert digest() == digest({**study.mapping, "epochs_factor": 2.0}) == digest({**study.mapping, "seeds": [5]})


@pytest.mark.parametrize("axis", ["stem", "training"])
def test_exchanged_names_do_not_get_the_choices_of_each_other(study: Study, echo_config: Resolver, axis: str) -> None:
    """The runs, and so the digest, are the same under any names; choices of an earlier version tell arms apart by their epochs."""
    _, choices = choices_of(plan_tuning(tuned(study), echo_config, MEASURE), echo_config, lambda words: 80.0)
    mapping = copy.deepcopy(dict(study.mapping))
    first, second = mapping["axes"][axis]["levels"].items()
    mapping["axes"][axis]["levels"] = {first[0]: second[1], second[0]: first[1]}
    exchanged = plan_tuning(tuned(build_study(mapping, "known.yaml")), echo_config, MEASURE)
    assert exchanged.digest == choices.digest
    problem = misnamed(exchanged, choices)
    assert problem is not None and "is that of other runs: names were exchanged. Choose again" in problem
    earlier = choices.model_copy(
        update={"choices": tuple(c.model_copy(update={"runs": None}) for c in choices.choices)}
    )
    assert (misnamed(exchanged, earlier) is None) == (axis == "stem")
    for each in (choices, earlier):
        assert misnamed(plan_tuning(tuned(study), echo_config, MEASURE), each) is None


def test_a_cell_without_a_choice_is_an_error(tuning: Tuning, study: Study, echo_config: Resolver) -> None:
    _, choices = choices_of(tuning, echo_config, lambda words: 80.0)
    fewer = choices.model_copy(update={"choices": choices.choices[1:]})
    with pytest.raises(
        UserError, match=r"no choice for stem=patchify, training=OST, fraction=0\.1, seed=0\. Choose again"
    ):
        plan_with(tuned(study), echo_config, fewer)


def plan_with(study: Study, resolve: Resolver, choices: Choices | None) -> Plan:
    """Return the plan of a study with choices."""
    return make_full_plan(study, resolve, MEASURE, choices)


def test_the_main_runs_get_the_chosen_settings(
    tuning: Tuning, study: Study, echo_config: Resolver, tmp_path: Path
) -> None:
    _, choices = choices_of(tuning, echo_config, lambda words: 80.0)
    plan = plan_with(tuned(study), echo_config, choices)
    for run in plan.runs:
        if run.stage == "finetune":
            words = dict(word.split("=") for word in run.overrides)
            expected = {"OST": "10", "TST": "5"}[run.levels["training"]]
            assert (words["train.epochs"], words["optim.lr"]) == (expected, "0.001")
    write_plan(plan, tmp_path)
    assert read_plan(tmp_path).choices == choices
    assert read_plan(tmp_path).runs == plan.runs


def test_a_run_at_the_whole_budget_without_other_values_is_the_run_of_the_matched_study(
    study: Study, echo_config: Resolver
) -> None:
    """Only `train.epochs` is named although it is that of the recipe; the hash is that of the resolved config."""
    tuning = plan_tuning(tuned(study, lengths=[1.0], values={}), echo_config, MEASURE)
    _, choices = choices_of(tuning, echo_config, lambda words: 80.0)
    chosen, matched = (plan_with(tuned(study), echo_config, each) for each in (choices, None))
    ost = [{run.id for run in plan.runs if run.levels.get("training") == "OST"} for plan in (chosen, matched)]
    assert ost[0] == ost[1]


def test_a_factor_multiplies_the_epochs_of_every_stage_of_every_arm(
    tuning: Tuning, study: Study, echo_config: Resolver
) -> None:
    _, choices = choices_of(tuning, echo_config, lambda words: 80.0)
    factored = build_study({**study.mapping, "tune": TUNE, "epochs_factor": 1.5}, "x")
    plan = plan_with(factored, echo_config, choices)
    epochs: dict[str, set[str]] = {}
    for run in plan.runs:
        words = dict(word.split("=") for word in run.overrides)
        epochs.setdefault(run.levels.get("training", "pretrain"), set()).add(words["train.epochs"])
    assert epochs == {"pretrain": {"10"}, "OST": {"15"}, "TST": {"8"}}  # of 7, 10 and 5, rounded
    assert {run.needs for run in plan.runs if run.levels.get("training") == "TST"} == {
        run.id for run in plan.runs if run.stage == "pretrain"
    }


def test_a_factor_leaves_at_least_one_epoch(study: Study, echo_config: Resolver) -> None:
    plan = plan_with(build_study({**study.mapping, "epochs_factor": 0.01}, "x"), echo_config, None)
    assert {dict(word.split("=") for word in run.overrides)["train.epochs"] for run in plan.runs} == {"1"}


def test_without_tune_match_and_factor_a_plan_is_as_written(study: Study, echo_config: Resolver) -> None:
    plain = build_study({**study.mapping, "match": "none"}, "x")
    assert plan_with(plain, echo_config, None) == make_plan(plain, echo_config)
