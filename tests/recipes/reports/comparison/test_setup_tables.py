"""Tables of the baselines and of the chosen lengths of a comparison."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from comparison_studies import SCATTER, comparison_study, write_comparison
from table_studies import write_run

from common.evaluation.probe_run import PROBE_METRICS
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.comparison.setup_tables import BASELINE_METRICS
from recipes.reports.report import write_pages
from recipes.reports.results import RunRecord, StudyRecord, read_runs
from recipes.study.choices import Candidate, Choice, Choices
from recipes.study.plan import PlannedRun
from recipes.study.specification import BASELINES

ACCURACIES = {"pre-trained": 84.0, "untrained": 60.0, "pixels": 90.0}


def _baseline(number: int, levels: dict[str, str]) -> PlannedRun:
    return PlannedRun(f"baselines-{number:08x}", BASELINES, "common.evaluation probe", "probe.yaml", (), levels, None)


def _with(run: RunRecord, **metrics: float) -> RunRecord:
    """Return a run with other metrics on top of its own."""
    assert run.result is not None
    return replace(run, result=replace(run.result, metrics={**run.result.metrics, **metrics}))


@pytest.fixture
def record(tmp_path: Path) -> StudyRecord:
    """Return a study with baselines at two amounts of labels, and with choices."""
    study = comparison_study(fractions=(0.1, 1.0))
    record = write_comparison(study, tmp_path, lambda at: 80 + 10 * float(at["fraction"]) + SCATTER[at["seed"]])
    runs = list(record.plan.runs)
    for features, accuracy in ACCURACIES.items():
        for stem in ("patchify", "conv") if features != "pixels" else (None,):
            for fraction in ("0.1", "1"):
                for seed in ("0", "1", "2"):
                    network = {"stem": stem} if stem else {}
                    levels = {**network, "fraction": fraction, "seed": seed, "features": features}
                    runs.append(_baseline(len(runs), levels))
                    value = accuracy + (stem == "conv") + 2 * (fraction == "1") + SCATTER[seed]
                    metrics = {"test_knn_top1": value, "test_probe_top1": value - 5}
                    write_run(tmp_path / "runs" / runs[-1].id, {"metrics": metrics})
    choices = tuple(
        Choice(
            levels={"stem": stem, "training": training, "fraction": fraction},
            settings={"finetune.train.epochs": 40, "finetune.optim.lr": 0.002},
            length=0.5,
            metric=91.25,
            candidates=(
                Candidate(length=0.5, epochs=40, metric=91.25),
                Candidate(length=1.0, epochs=80, metric=None),
            ),
            gain=1.5 if training == "OST" else None,
            converged=False if training == "OST" else None,
        )
        for stem in ("patchify", "conv")
        for training in ("OST", "TST")
        for fraction in ("0.1", "1")
    )
    found = Choices(
        command="python -m recipes tune known.yaml", digest="0" * 16, match="compute", metric="validation_subset_top1",
        seeds=(100,), choices=choices,
    )  # fmt: skip
    return read_runs(replace(record.plan, runs=tuple(runs), choices=found), tmp_path)


def test_baselines_have_a_row_per_features_network_and_classifier(record: StudyRecord) -> None:
    table = ComparisonPage(record).tables.baselines()
    rows = {tuple(row[:3]): list(row[3:]) for row in table.rows}
    assert rows["pixels", "–", "k-NN"] == ["90.0", "92.0"]
    assert rows["pixels", "–", "linear probe"] == ["85.0", "87.0"]
    assert rows["pre-trained", "conv stem", "k-NN"] == ["85.0", "87.0"]
    assert rows["untrained", "patchify stem", "linear probe"] == ["55.0", "57.0"]
    assert len(rows) == 10


def test_the_best_baseline_stands_beside_the_best_arm(record: StudyRecord) -> None:
    reached = "k-NN on raw pixels reaches 90.0 with 10% (100 labels)"
    best = "the best arm (patchify stem, one-stage training (OST)) reaches 81.0."
    assert f"Without training a network on the labels, {reached}; {best}" in ComparisonPage(record).answer()


def test_the_first_screen_says_that_no_arm_is_above_a_baseline(record: StudyRecord) -> None:
    """At the largest amount of labels where that is so: k-NN on pixels reaches 92.0 there, and the best arm less."""
    page = ComparisonPage(record)
    sentence = (
        "No arm is above the best baseline, which trains no network on the labels: k-NN on raw pixels reaches 92.0 with 100%"
        " (1,000 labels), the best arm"
    )
    assert [each for each in page.advice() if each.startswith(sentence)]
    better = replace(record, runs={name: _with(run, test_top1=95.0) for name, run in record.runs.items()})
    assert not [each for each in ComparisonPage(better).advice() if "baseline" in each]


def test_arms_below_a_baseline_at_every_amount_of_labels_are_not_what_the_first_screen_begins_with(
    record: StudyRecord,
) -> None:
    """They have not learned enough to be compared; frozen features that are better are what to use."""
    close = {
        name: _with(run, test_top1=91.0 + SCATTER[run.planned.levels["seed"]]) for name, run in record.runs.items()
    }
    assert not ComparisonPage(replace(record, runs=close)).tables.outdone(), "92.0 is within the arms' interval"
    weak = {name: _with(run, test_top1=40.0) if "baselines" not in name else run for name, run in record.runs.items()}
    advice = ComparisonPage(replace(record, runs=weak)).advice()
    assert advice[0] == (
        "Train longer before you compare: k-NN on raw pixels reaches 92.0 without training a network, and the best arm 40.0."
    )
    assert advice[1].startswith("Among the arms: ") and advice[1][16].islower()
    frozen = {
        name: _with(run, test_knn_top1=97.0) if run.planned.levels.get("features") == "pre-trained" else run
        for name, run in weak.items()
    }
    assert ComparisonPage(replace(record, runs=frozen)).advice()[0].startswith("Use k-NN on pre-trained features (")


def test_arms_that_lose_in_training_what_they_start_from_are_named(record: StudyRecord) -> None:
    """A linear probe on the frozen features of the same pre-training is better than the network fine-tuned from it."""

    def advice(probe: dict[str, float]) -> list[str]:
        runs = {
            name: _with(run, test_knn_top1=50.0, test_probe_top1=probe[run.planned.levels["stem"]])
            if run.planned.levels.get("features") == "pre-trained"
            else run
            for name, run in record.runs.items()
        }
        return [each for each in ComparisonPage(replace(record, runs=runs)).advice() if "Below what" in each]

    assert not advice({"patchify": 50.0, "conv": 50.0})
    (sentence,) = advice({"patchify": 50.0, "conv": 99.0})
    assert re.fullmatch(
        r"Below what they start from: conv stem, two-stage training \(TST\) reaches \d\d\.\d with 100% \(1,000 labels\), linear "
        r"probe on its frozen features 99\.0 \(the best .* interval\)\. Their fine-tuning is too short, or its rate does not fit\.",
        sentence,
    )
    (sentence,) = advice({"patchify": 99.0, "conv": 99.0})
    assert sentence.count("reaches") == 2


@pytest.mark.parametrize("metric", ["test_balanced_accuracy", "test_loss"])
def test_baselines_are_compared_with_arms_in_the_same_metric_or_not_at_all(record: StudyRecord, metric: str) -> None:
    """An accuracy of 90% beside a balanced accuracy of 60% would say that a baseline wins."""
    study = record.plan.study
    spec = replace(study.report, metric=metric, metric_name=metric)
    others = replace(record.plan, study=replace(study, report=spec))
    runs = {name: _with(run, **{metric: 60.0}) for name, run in record.runs.items()}
    own = {"test_knn_balanced_accuracy": 55.0, "test_probe_balanced_accuracy": 50.0}
    runs = {name: _with(run, **own) if run.planned.stage == "baselines" else run for name, run in runs.items()}
    page = ComparisonPage(replace(record, plan=others, runs=runs))
    values = {row[-1] for row in page.tables.baselines().rows}
    sentences = [*page.answer(), *page.advice()]
    if metric == "test_balanced_accuracy":
        assert values == {"55.0", "50.0"}
        assert any("k-NN on" in each and "reaches 55.0" in each for each in sentences)
    else:
        assert {row[2] for row in page.tables.baselines().rows} == {
            "k-NN, top-1 accuracy",
            "linear probe, top-1 accuracy",
        }
        assert not [each for each in sentences if "k-NN on" in each or "baseline" in each]


def test_the_metrics_of_baselines_are_those_that_they_report() -> None:
    assert tuple(f"test_{name}" for name in PROBE_METRICS) == BASELINE_METRICS


def test_choices_have_every_candidate_and_what_twice_the_epochs_gain(record: StudyRecord) -> None:
    table = ComparisonPage(record).tables.choices()
    rows = {tuple(row[:3]): list(row[3:]) for row in table.rows}
    assert rows["conv stem", "one-stage training (OST)", "10%"] == ["0.5", "40", "91.2, –", "91.2", "+1.5", "no"]
    assert rows["conv stem", "two-stage training (TST)", "100%"] == ["0.5", "40", "91.2, –", "91.2", "–", "unknown"]


@pytest.mark.usefixtures("without_figures")
def test_the_page_of_a_tuned_study_names_the_command_and_marks_what_has_not_converged(record: StudyRecord) -> None:
    write_pages(record)
    for name in ("report.html", "report.md"):
        text = (record.folder / name).read_text()
        assert "python -m recipes tune known.yaml" in text
        assert "† Not converged" in text
        assert "Baselines on frozen features" in text
