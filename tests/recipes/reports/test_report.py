"""The report of a comparison: its numbers are those of the run folders, and it states which differences are not significant."""

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from comparison_studies import SCATTER, comparison_study, write_comparison

from recipes.reports.comparison.claims import Outcome
from recipes.reports.comparison.figures import comparison_figures
from recipes.reports.comparison.findings import Findings, compute_findings
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.comparison.words import Words
from recipes.reports.report import write_pages, write_report
from recipes.reports.results import read_study
from recipes.reports.run_files import read_curves
from recipes.study.kept_levels import kept_plan
from recipes.study.plan import PlannedRun, Resolver, make_plan
from recipes.study.specification import Study
from recipes.study.stored_plan import write_plan
from recipes.study.study_file import build_study


def page_of(folder: Path) -> ComparisonPage:
    """Return the page content of the study in `folder`."""
    return ComparisonPage(read_study(folder))


def overwrite(folder: Path, run: PlannedRun, **facts: object) -> None:
    """Change the result of a run."""
    path = folder / "runs" / run.id / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def change_metric(folder: Path, change: Callable[[PlannedRun, float], float]) -> None:
    """Change the accuracy of every fine-tuning run."""
    for run in read_study(folder).plan.runs:
        path = folder / "runs" / run.id / "result.json"
        content = json.loads(path.read_text())
        if "test_top1" in content["metrics"]:
            content["metrics"]["test_top1"] = change(run, content["metrics"]["test_top1"])
            path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the cache for the report shared by the tests of its files."""
    return {}


@pytest.fixture
def report(study_folder: Path, written: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a study folder with its report, written once for the module."""
    if "folder" not in written:
        written["folder"] = tmp_path_factory.mktemp("report") / "study"
        shutil.copytree(study_folder, written["folder"])
        write_report(written["folder"])
    return written["folder"]


def test_means_and_intervals_are_computed_over_the_seeds(study_folder: Path) -> None:
    findings = compute_findings(read_study(study_folder))
    (arm,) = [arm for arm in findings.arms if list(arm.levels.values()) == ["patchify", "0.25", "OST"]]
    assert arm.points == {"0": pytest.approx(87.4), "1": pytest.approx(88.1), "2": pytest.approx(88.5)}
    assert arm.interval.mean == pytest.approx(88.0)
    error = ((0.6**2 + 0.1**2 + 0.5**2) / 2) ** 0.5 / 3**0.5
    assert arm.interval.error == pytest.approx(error)
    assert arm.interval.half_width == pytest.approx(4.302653 * error, rel=0.01)  # Wilson's is close to Student's
    assert arm.interval.low + arm.interval.high < 2 * 88.0  # and has more room below


def test_differences_by_seed_stand_beside_the_interval_of_independent_seeds(study_folder: Path) -> None:
    findings = compute_findings(read_study(study_folder))
    (setting,) = [e for e in findings.main.by_setting if dict(e.levels) == {"stem": "conv", "fraction": "0.1"}]
    assert setting.points == {"0": pytest.approx(8.3), "1": pytest.approx(7.6), "2": pytest.approx(8.1)}
    assert setting.interval.mean == pytest.approx(8.0)
    assert findings.main.pooled.interval.mean == pytest.approx(3.625)  # the mean of 8, 4, 2, 0.5
    ends = [[79.6, 81.7, 81.7], [87.9, 89.3, 89.8]]  # OST and TST: their variances add up
    error = sum(np.var(values, ddof=1) / 3 for values in ends) ** 0.5
    assert setting.interval.error == pytest.approx(error)


def test_label_saving_of_known_curves(study_folder: Path) -> None:
    findings = compute_findings(read_study(study_folder))
    panel, saving = findings.savings[0]
    assert dict(panel) == {"stem": "patchify"} and findings.saving_x == "0.1" and saving is not None
    assert findings.labels == {"0.1": 115, "0.25": 287, "0.5": 574, "1": 1149}
    assert saving.equal == pytest.approx(287)  # 80 + 8 is the accuracy of OST with a quarter of the labels
    assert (saving.labels, saving.measured) == (115, (115, 1149))


def test_answer_gives_the_declared_claims_with_their_intervals(study_folder: Path) -> None:
    page = page_of(study_folder)
    assert (
        page.words.headline()
        == "With the patchify stem, two-stage training (TST) outperforms one-stage training (OST) by 3.6 points."
    )
    effect, reason, interaction, saving, alternative, *_ = page.answer()
    assert effect.startswith(
        "With the patchify stem, two-stage training (TST) compared with one-stage training (OST), averaged over 4 label "
        "fractions: +3.6 points of top-1 accuracy (95% CI +"
    )
    assert effect.endswith("), significantly better.") and "adjusted p = " in effect
    assert reason == (
        "The declared effect is the one with the patchify stem: it is the study's first: no tuning runs chose another one on "
        "validation images."
    )
    assert interaction.startswith(
        "The effect of pre-training does not differ significantly between patchify stem and conv stem"
    )
    assert saving.startswith(
        "With the patchify stem, two-stage training (TST) with 10% (115 labels) matches one-stage training (OST) with 287 labels"
    )
    assert alternative.startswith(
        "Conv stem with one-stage training (OST) compared with patchify stem with two-stage training (TST), averaged over 4 label "
        "fractions"
    )
    assert any(sentence.startswith("Exploratory: in individual settings") for sentence in page.answer())


def test_cards_are_the_declared_claims(study_folder: Path) -> None:
    page = page_of(study_folder)
    assert [(card.title, card.conclusion, card.number, card.tone) for card in page.cards()] == [
        ("Is two-stage training (TST) worth it with the patchify stem?", "yes", "+3.6 points", "up"),
        (
            "How many labels does it save with 10% (115 labels)?",
            "needs fewer labels",
            "as good as OST with 287 labels",
            "up",
        ),
        ("Is conv with OST better than patchify with TST?", "no", "−2.6 points", "down"),
    ]
    assert [row[0] for row in page.tables.claims().rows] == [
        "TST − OST, all amounts (patchify stem)",
        "TST − OST, 10% (115 labels) (patchify stem)",
        "conv with OST − patchify with TST",
    ]


def test_insignificant_differences_are_reported_as_such(study_folder: Path) -> None:
    gains = {"0": 1.0, "1": -1.2, "2": 0.5}

    def change(run: PlannedRun, value: float) -> float:
        return 90.0 + (gains[run.levels["seed"]] if run.levels["training"] == "TST" else 0.0)

    change_metric(study_folder, change)
    page = page_of(study_folder)
    assert page.words.headline().endswith("do not differ significantly.")
    assert (
        "+0.1 points of top-1 accuracy (95% CI −2.8 to +3.0; adjusted p = 1), which is inconclusive."
        in page.answer()[0]
    )
    assert page.cards()[0].conclusion == "inconclusive"
    assert page.cards()[0].tone == ""


def test_negative_effect_is_reported_as_underperformance(study_folder: Path) -> None:
    change_metric(study_folder, lambda run, value: value - 12 * (run.levels["training"] == "TST"))
    page = page_of(study_folder)
    assert (
        page.words.headline()
        == "With the patchify stem, two-stage training (TST) underperforms one-stage training (OST) by 8.4 points."
    )
    assert page.cards()[0].tone == "down"
    assert "needs significantly fewer labels for the same top-1 accuracy, fewer than 115 labels" in page.words.saving(
        *page.findings.savings[0]
    )


@pytest.mark.usefixtures("without_figures")
def test_one_seed_gives_numbers_without_intervals(study_folder: Path) -> None:
    for run in read_study(study_folder).plan.runs:
        if run.levels["seed"] != "0":
            shutil.rmtree(study_folder / "runs" / run.id)
    page = write_report(study_folder)
    assert page.words.headline() == "Incomplete: 32 results are missing."
    assert "+3.9 points of top-1 accuracy (no interval: one seed), from an incomplete study." in page.answer()[0]
    assert page.tables.accuracies().rows[0][2] == "79.4 (1 of 3)"
    assert page.warnings() == ["18 of 54 runs are done; these numbers do not include the others."]


def test_page_of_a_study_without_results(study_folder: Path) -> None:
    shutil.rmtree(study_folder / "runs")
    page = write_report(study_folder)
    assert page.words.headline() == "No pair of runs is complete yet."
    assert not (study_folder / "figures").exists()


@pytest.mark.usefixtures("without_figures")
def test_crash_is_listed_with_its_step_and_excluded_from_the_means(
    study_folder: Path, run_of: Callable[..., PlannedRun]
) -> None:
    run = run_of("finetune", stem="conv", training="OST", fraction="0.1", seed="1")
    overwrite(study_folder, run, status="diverged", reason="a loss of <b>nan</b> | at step 41", step=41)
    page = write_report(study_folder)
    assert page.tables.failed_runs().rows == [[run.id, "diverged", "41", "a loss of <b>nan</b> | at step 41"]]
    assert page.warnings()[0].startswith("Not every run finished: 1 diverged.")
    (arm,) = [arm for arm in page.findings.arms if list(arm.levels.values()) == ["conv", "0.1", "OST"]]
    assert arm.interval.mean == pytest.approx((79.6 + 81.7) / 2)
    assert "(2 of 3)" in page.tables.accuracies().rows[2][2]
    assert page.tables.divergences().rows == [["conv stem", "one-stage training (OST)", "10%", "1 of 3", "6% to 79%"]]
    assert page.findings.claims[0].outcome is Outcome.BETTER  # the claim on the other stem is as before
    assert page.findings.claims[2].outcome is Outcome.FEW_SEEDS  # two are left, which point where all three do
    assert "a loss of &lt;b&gt;nan&lt;/b&gt; |" in (study_folder / "report.html").read_text()
    assert r"nan\</b> \| at step 41" in (study_folder / "report.md").read_text()


def test_cost_of_pretraining_is_amortized_over_the_runs_that_start_from_it(study_folder: Path) -> None:
    costs = page_of(study_folder).costs.set_index(["stem", "training"])
    one_stage, two_stage = costs.loc["conv", "OST"], costs.loc["conv", "TST"]
    assert (one_stage.earlier_seconds, one_stage.amortized_seconds) == (0.0, 0.0)
    assert (two_stage.earlier_seconds, two_stage.shared_by, two_stage.amortized_seconds) == (24.0, 4.0, 6.0)
    assert two_stage.total_seconds == pytest.approx(two_stage.seconds + 6)
    assert two_stage.standalone_seconds == pytest.approx(two_stage.seconds + 24)


def test_page_is_self_contained(report: Path) -> None:
    html = (report / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', html.replace("xlink:", ""))
    assert "@import" not in html
    assert "http://" not in html.replace("http://www.w3.org/1999/xlink", "")
    assert "https://" not in html
    assert html.count("<figure>") == html.count('class="figure-wide"') == html.count('class="figure-narrow"') == 7
    assert html.count("<svg") == 14
    identifiers = re.findall(r' id="([^"]+)"', html)
    assert len(identifiers) == len(set(identifiers))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(identifiers)


def test_figures_follow_the_theme(report: Path) -> None:
    html = (report / "report.html").read_text()
    figures = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert "var(--series-0)" in figures
    assert not re.findall(r"#[0-9a-f]{6}\b", figures)
    assert "prefers-color-scheme: dark" in html


def test_figures_linked_by_the_markdown_exist(report: Path) -> None:
    text = (report / "report.md").read_text()
    links = re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)
    assert len(links) == 7
    assert all((report / link).read_bytes().startswith(b"\x89PNG") for link in links)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert re.search(r"\| conv stem \| two-stage training \(TST\) \| 89\.0 \(8\d\.\d to 9\d\.\d\) \|", text)


def test_csv_has_a_line_for_each_run(report: Path) -> None:
    with (report / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 54
    (line,) = [line for line in lines if line["run"].startswith("finetune-conv-TST-fraction0.1-seed0")]
    assert float(line["test_top1"]) == pytest.approx(87.9)
    assert (line["stem"], line["fraction"], line["seed"], line["status"]) == ("conv", "0.1", "0", "finished")
    assert line["starts_from"].startswith("pretrain-conv-seed0")
    assert lines[0]["training"] == ""


def test_report_is_reproducible_from_the_folders_alone(report: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(report, moved, ignore=shutil.ignore_patterns("report.*", "results.csv", "figures"))
    write_report(moved)
    assert (moved / "results.csv").read_text() == (report / "results.csv").read_text()
    regenerated = (moved / "report.html").read_text().replace(str(moved), str(report))
    assert regenerated == (report / "report.html").read_text()


def test_page_gives_the_commands_to_reproduce_it(report: Path) -> None:
    page = page_of(report)
    run, report_command, single_run = page.commands()
    assert run == f"python -m recipes run known.yaml --out {report}"
    assert report_command == f"python -m recipes report {report}"
    assert single_run.startswith("accelerate launch -m finetune finetune.yaml model.stem=conv")
    assert ("versions.torch", "2.15.0") in page.environment()
    assert "Chance level is about 10% (10 classes)." in page.notes()


def test_command_includes_scale_and_seeds_and_parses_back(report: Path) -> None:
    page = page_of(report)
    mapping = {
        "scale": "digits",
        "seeds": [0, 3],
        "match": "steps",
        "tune": None,
        "epochs_factor": 2.0,
        "set": {"model.mlp": [1, 2], "pretrain.published": "none", "data.source": "a b"},
    }
    study = replace(page.study.plan.study, mapping=mapping, source="my study.yaml")
    page.study = replace(page.study, plan=replace(page.study.plan, study=study))
    words = shlex.split(page.commands()[0])
    assert words[:5] == ["python", "-m", "recipes", "run", "my study.yaml"]
    assert words[5:-2] == [
        "model.mlp=[1, 2]", "pretrain.published=none", "data.source=a b", "match=steps", "tune=none", "--scale", "digits",
        "--seeds", "0,3", "--epochs-factor", "2",
    ]  # fmt: skip


@pytest.mark.usefixtures("without_figures")
def test_page_of_a_study_with_a_single_comparison(study_folder: Path) -> None:
    path = study_folder / "study.yaml"
    content = yaml.safe_load(path.read_text())
    del content["study"]["axes"]["stem"], content["study"]["report"]["compare"]["stem"]
    content["cells"] = [cell for cell in content["cells"] if cell["levels"].pop("stem") == "conv"]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    page = write_report(study_folder)
    assert page.words.headline().endswith("by 3.6 points.")
    assert [claim.name for claim in page.findings.claims] == ["effect", "saving"]
    assert "effects" not in (study_folder / "report.md").read_text()
    assert page.tables.accuracies().rows[0][0] == "one-stage training (OST)"


def test_curves_skip_an_incomplete_line(study_folder: Path) -> None:
    run = read_study(study_folder).of_stage("pretrain")[0]
    curves = read_curves([run], ["knn_top1", "loss"])
    knn = curves[curves["name"] == "knn_top1"]
    assert (curves["name"] == "loss").sum() == 31
    assert len(knn) == 7
    assert knn[["run", "epoch", "value"]].iloc[0].tolist() == [run.planned.id, 0.0, 71.0]


def test_long_curves_are_thinned_evenly_and_keep_their_last_value(study_folder: Path) -> None:
    run = read_study(study_folder).of_stage("pretrain")[0]
    curves = read_curves([run], ["knn_top1", "loss"], most_values=8)
    loss = curves[curves["name"] == "loss"]
    assert {2, 6, 10, 14, 18, 22, 26, 30} <= set(loss["epoch"])  # and those of the lines that have the other metric
    assert curves[curves["name"] == "knn_top1"]["epoch"].tolist() == [0, 5, 10, 15, 20, 25, 30]  # few: all of them


def test_amounts_other_than_fractions_are_formatted_unchanged(study_folder: Path) -> None:
    findings: Findings = compute_findings(read_study(study_folder))
    assert Words(findings).format_x(0.25) == "25%"
    assert Words(findings).format_x(0.015) == "1.5%"
    with_counts = Findings(**{**vars(findings), "x": ("1", "10", "100")})
    assert Words(with_counts).format_x(10.0) == "10"


def test_report_with_predictions_covers_seeds_and_test_images(tmp_path: Path, draw_only: Callable[..., None]) -> None:
    draw_only("accuracy")

    def value(at: Mapping[str, str]) -> float:
        return (
            (80, 88, 96)[("0.1", "0.25", "1").index(at["fraction"])]
            + SCATTER[at["seed"]]
            + 2 * (at["training"] == "TST")
        )

    page = write_pages(write_comparison(comparison_study(), tmp_path / "images", value, images=1000))
    alone = write_pages(write_comparison(comparison_study(), tmp_path / "seeds", value))
    assert isinstance(page, ComparisonPage) and isinstance(alone, ComparisonPage)
    texts = [(folder / "report.md").read_text() for folder in (tmp_path / "images", tmp_path / "seeds")]
    assert (
        "95% confidence intervals over seeds and test images" in texts[0]
        and "over 3 seeds and the test images" in texts[0]
    )
    assert "over seeds and test images" not in texts[1] and "the test images are taken as fixed" in texts[1]
    assert page.answer()[-1].endswith("they are for future images of the same kind.")
    assert "The intervals cover the seeds alone, not the sampling of the test images: " in alone.answer()[-1]
    assert all(
        with_images.interval.error > without.interval.error
        for with_images, without in zip(page.findings.arms, alone.findings.arms, strict=True)
    )
    assert page.findings.main.pooled.interval.images == 1000


def test_interval_of_runs_without_an_error_ends_at_100(tmp_path: Path) -> None:
    record = write_comparison(comparison_study(), tmp_path, lambda at: 100.0, images=200)
    intervals = [arm.interval for arm in ComparisonPage(record).findings.arms]
    assert all(found.high == pytest.approx(100.0) and found.high <= 100.0 for found in intervals)
    assert all(90 < found.low < 99 for found in intervals)


@dataclass(frozen=True)
class Choice:
    """A choice on validation images."""

    levels: Mapping[str, str]
    metric: float | None
    converged: bool | None


@dataclass(frozen=True)
class Choices:
    """The choices of a study, as the report uses them."""

    choices: tuple[Choice, ...]

    def of(self, levels: Mapping[str, str]) -> Choice | None:
        """Return the choice of a cell."""
        return next((each for each in self.choices if each.levels.items() <= levels.items()), None)


@pytest.fixture
def tuned(tmp_path: Path) -> ComparisonPage:
    """Return the page of a study with choices that prefer the conv stem, whose one-stage arm has not converged."""

    def run_of(at: Mapping[str, str]) -> dict[str, object]:
        labels = 100 * float(at["fraction"])
        return {
            "value": 80 + 15 * float(at["fraction"]) + SCATTER[at["seed"]] + 2 * (at["training"] == "TST"),
            "metrics": {"validation_subset_images": labels},
        }

    record = write_comparison(comparison_study(), tmp_path, run_of)
    cells = {(cell.levels["stem"], cell.levels["training"]) for cell in record.plan.cells}
    found = Choices(
        tuple(
            Choice({"stem": stem, "training": training}, 90 + (stem == "conv"), (stem, training) != ("conv", "OST"))
            for stem, training in sorted(cells)
        )
    )
    object.__setattr__(record.plan, "choices", found)  # a plan of a study that is tuned has them
    return ComparisonPage(record)


def test_declared_effect_is_that_of_the_panel_that_validation_images_prefer(tuned: ComparisonPage) -> None:
    assert tuned.words.headline().startswith("With the conv stem, two-stage training (TST) outperforms")
    assert tuned.answer()[1] == (
        "The declared effect is the one with the conv stem: the tuning runs' validation images prefer it; their seeds are not "
        "reported."
    )


def test_arms_that_have_not_converged_are_marked(tuned: ComparisonPage) -> None:
    rows = {tuple(row[:2]): row[2:] for row in tuned.tables.accuracies().rows}
    assert all("†" in entry for entry in rows["conv stem", "one-stage training (OST)"])
    assert not any(
        "†" in entry for key, row in rows.items() if key != ("conv stem", "one-stage training (OST)") for entry in row
    )
    assert any(note.startswith("† Not converged: a run of twice the epochs gains a point") for note in tuned.notes())


def test_labels_of_validation_images_count_where_choices_used_them(tuned: ComparisonPage) -> None:
    assert tuned.findings.labels == {"0.1": 110, "0.25": 275, "1": 1100}


def test_effects_that_interact_are_drawn_by_panel(tmp_path: Path) -> None:
    def names(sign: int, folder: Path) -> list[str]:
        record = write_comparison(
            comparison_study(),
            folder,
            lambda at: 80 + SCATTER[at["seed"]] + 4 * (at["training"] == "TST") * (sign if at["stem"] == "conv" else 1),
        )
        (fig,) = [fig for name, fig, _ in comparison_figures(ComparisonPage(record)) if name == "effects"]
        return [label.get_text() for label in fig.axes[0].get_yticklabels()]

    assert names(1, tmp_path / "one")[0] == "TST − OST, average"
    opposite = names(-1, tmp_path / "two")
    assert opposite[:2] == ["TST − OST, patchify stem", "TST − OST, conv stem"] and not any(
        "average" in n for n in opposite
    )


def test_figures_of_a_loss_have_its_unit(tmp_path: Path) -> None:
    record = write_comparison(
        comparison_study(metric="test_loss", metric_name="test loss"),
        tmp_path,
        lambda at: {"metrics": {"test_loss": 1.0 + SCATTER[at["seed"]] - 0.3 * (at["training"] == "TST")}},
    )
    figures = {name: fig for name, fig, _ in comparison_figures(ComparisonPage(record))}
    assert figures["differences"].axes[0].get_ylabel() == "TST − OST, test loss"
    assert figures["effects"].axes[0].get_xlabel() == "test loss"


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("levels", [{"stem": ["conv"]}, {"fraction": [0.1]}, {"stem": ["conv"], "fraction": [0.1]}])
def test_a_part_of_a_study_has_a_page_that_lacks_nothing(
    study: Study, study_folder: Path, echo_config: Resolver, levels: dict[str, list[object]]
) -> None:
    part = make_plan(build_study({**study.mapping, "levels": levels}, "known.yaml"), echo_config)
    (study_folder / "study.yaml").unlink()
    write_plan(kept_plan(part, ()), study_folder)
    page = write_report(study_folder)
    assert isinstance(page, ComparisonPage) and page.warnings() == [] and page.findings.claims
    text = (study_folder / "report.md").read_text()
    assert "missing" not in text and "nan" not in text
    assert ("patchify" in text) == ("stem" not in levels)
    assert ("has results at only one amount" in text) == ("fraction" in levels)


def test_a_single_test_image_says_nothing_about_others(tmp_path: Path) -> None:
    """One sentence had the seeds alone, another one the test images, too."""
    record = write_comparison(comparison_study(), tmp_path, lambda at: 100.0, images=1)
    page = ComparisonPage(record)
    assert "a single test image says nothing about others" in page.findings.values.problems
    assert "seeds and test images" not in " ".join([*page.answer(), *page.notes(), page.words.covered])


def test_with_two_seeds_no_saving_is_significant_in_any_panel(tmp_path: Path) -> None:
    """That of the panel that no claim declares was, and it was priced."""
    labels = {"0.1": 70.0, "0.25": 80.0, "1": 95.0}

    def value(at: Mapping[str, str]) -> float:
        return (
            labels[at["fraction"]]
            + 4 * (at["training"] == "TST" and at["fraction"] == "0.1")
            + SCATTER[at["seed"]] / 10
        )

    price = {"label": 0.1, "device_hour": 1.0, "currency": "USD"}
    for num_seeds, conclusion in ((2, "too few seeds"), (3, "needs fewer labels")):
        study = comparison_study(num_seeds=num_seeds, price=price)
        page = ComparisonPage(write_comparison(study, tmp_path / str(num_seeds), value, images=400))
        assert {row[-1] for row in page.tables.savings().rows} == {conclusion}
        text = " ".join(page.sections.price_sentences())
        assert ("saves" in text) == (num_seeds == 3), text


def test_runs_that_several_cells_share_count_once(tmp_path: Path) -> None:
    """One-stage runs are the same for two recipes of pre-training: counted twice, they made intervals too narrow."""
    rates = {"patchify": {"pretrain.optim.lr": 1e-3}, "conv": {"pretrain.optim.lr": 2e-3}}
    study = comparison_study(axes={"stem": {"levels": rates}}, fractions=(1.0,))

    def value(at: Mapping[str, str]) -> float:
        scatter = {"OST": 1.0, "TST": 0.1}[at["training"]] * SCATTER[at["seed"]]
        return 80 + 3 * (at["training"] == "TST") + (at.get("stem") == "conv") * (at["training"] == "TST") + scatter

    findings = compute_findings(write_comparison(study, tmp_path, value))
    assert len(findings.values.same) == 1
    pooled, single = findings.main.pooled.interval, findings.main.by_setting[0].interval
    assert pooled.mean == pytest.approx(3.5) and single.mean == pytest.approx(3.0)
    spread = np.array([SCATTER[seed] for seed in ("0", "1", "2")])
    of_ost = spread.var(ddof=1) / 3
    of_tst = (0.1**2) * of_ost
    assert pooled.error**2 == pytest.approx(of_ost + of_tst / 2)
    assert single.error**2 == pytest.approx(of_ost + of_tst)
    second = findings.effects[1]
    same = next(each for each in second.by_setting if each.levels["training"] == "OST").interval
    assert same.mean == 0 and not same.is_known
