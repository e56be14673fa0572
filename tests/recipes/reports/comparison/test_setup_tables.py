"""Tables of the baselines and of the chosen lengths of a comparison."""

from dataclasses import replace
from pathlib import Path

import pytest
from comparison_studies import SCATTER, comparison_study, write_comparison
from table_studies import write_run

from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.report import write_pages
from recipes.reports.results import StudyRecord, read_runs
from recipes.study.choices import Candidate, Choice, Choices
from recipes.study.plan import PlannedRun
from recipes.study.specification import BASELINES

ACCURACIES = {"pre-trained": 84.0, "untrained": 60.0, "pixels": 90.0}


def _baseline(number: int, levels: dict[str, str]) -> PlannedRun:
    return PlannedRun(f"baselines-{number:08x}", BASELINES, "common.evaluation probe", "probe.yaml", (), levels, None)


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


def test_choices_have_every_candidate_and_what_twice_the_epochs_gain(record: StudyRecord) -> None:
    table = ComparisonPage(record).tables.choices()
    rows = {tuple(row[:3]): list(row[3:]) for row in table.rows}
    assert rows["conv stem", "one-stage training (OST)", "10%"] == ["0.5", "40", "91.2, –", "91.2", "+1.5", "no"]
    assert rows["conv stem", "two-stage training (TST)", "100%"] == ["0.5", "40", "91.2, –", "91.2", "–", "unknown"]


def test_the_page_of_a_tuned_study_names_the_command_and_marks_what_has_not_converged(record: StudyRecord) -> None:
    write_pages(record)
    for name in ("report.html", "report.md"):
        text = (record.folder / name).read_text()
        assert "python -m recipes tune known.yaml" in text
        assert "† Not converged" in text
        assert "Baselines on frozen features" in text
