"""The report of a comparison: its numbers are those of the run folders, and it states which differences are not significant."""

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from recipes.reports.comparison_findings import Findings, compute_findings
from recipes.reports.comparison_page import ComparisonPage
from recipes.reports.comparison_words import Words
from recipes.reports.report import write_report
from recipes.reports.results import read_curves, read_study
from recipes.study.plan import PlannedRun


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
    deviation = ((0.6**2 + 0.1**2 + 0.5**2) / 2) ** 0.5
    assert arm.interval.half_width == pytest.approx(4.302653 * deviation / 3**0.5, rel=1e-5)


def test_paired_differences_cancel_the_variation_between_seeds(study_folder: Path) -> None:
    findings = compute_findings(read_study(study_folder))
    (setting,) = [e for e in findings.main.by_setting if dict(e.levels) == {"stem": "conv", "fraction": "0.1"}]
    assert setting.points == {"0": pytest.approx(8.3), "1": pytest.approx(7.6), "2": pytest.approx(8.1)}
    assert findings.main.pooled.interval.mean == pytest.approx(3.625)  # the mean of 8, 4, 2, 0.5
    assert findings.effects[1].pooled.points == {
        "0": pytest.approx(0.2),
        "1": pytest.approx(1.6),
        "2": pytest.approx(1.2),
    }


def test_label_saving_of_known_curves(study_folder: Path) -> None:
    findings = compute_findings(read_study(study_folder))
    panel, savings = findings.savings[0]
    assert dict(panel) == {"stem": "patchify"}
    assert savings[0].equal == pytest.approx(0.25)  # 80 + 8 is the accuracy of OST with a quarter of the labels
    assert savings[2].equal == pytest.approx(0.5 * 2 ** (2 / 3))  # 95 is two thirds of the way from 93 to 96


def test_answer_gives_the_effect_with_its_interval(study_folder: Path) -> None:
    page = page_of(study_folder)
    assert (
        page.words.headline()
        == "On average, two-stage training (TST) outperforms one-stage training (OST) by 3.6 points."
    )
    assert page.answer()[0] == (
        "Averaged over stem and fraction of the labels (8 settings, 3 seeds), two-stage training (TST) is 3.6 points of "
        "top-1 accuracy above one-stage training (OST) (95% CI +2.7 to +4.5)."
    )
    assert page.answer()[1].startswith(
        "In individual settings, the difference is significantly above zero in 6 of 8 (patchify stem: 10%, 25%, 50%;"
    )
    assert (
        "Patchify stem: two-stage training (TST) with 10% of the labels matches one-stage training (OST) with 25%"
        in page.answer()[2]
    )


def test_insignificant_differences_are_reported_as_such(study_folder: Path) -> None:
    gains = {"0": 1.0, "1": -1.2, "2": 0.5}

    def change(run: PlannedRun, value: float) -> float:
        return 90.0 + (gains[run.levels["seed"]] if run.levels["training"] == "TST" else 0.0)

    change_metric(study_folder, change)
    page = page_of(study_folder)
    assert page.words.headline().endswith("do not differ significantly.")
    assert (
        "+0.1 points of top-1 accuracy (95% CI −2.8 to +3.0), which is not significantly different from zero."
        in page.answer()[0]
    )
    assert page.cards()[0].conclusion == "not significant"
    assert page.cards()[0].tone == ""
    assert "is inconclusive" in page.words.effects_comparison()


def test_negative_effect_is_reported_as_underperformance(study_folder: Path) -> None:
    change_metric(study_folder, lambda run, value: value - 12 * (run.levels["training"] == "TST"))
    page = page_of(study_folder)
    assert (
        page.words.headline()
        == "On average, two-stage training (TST) underperforms one-stage training (OST) by 8.4 points."
    )
    assert page.cards()[0].tone == "down"
    panel, savings = page.findings.savings[0]
    assert "is below one-stage training (OST) with 10%, the smallest measured amount" in page.words.saving(
        panel, savings[0]
    )


def test_effects_are_compared_by_size_regardless_of_their_direction(study_folder: Path) -> None:
    change_metric(study_folder, lambda run, value: value - 20 * (run.levels["stem"] == "conv"))
    sentence = page_of(study_folder).words.effects_comparison()
    assert sentence.startswith("The stem has a larger effect than pre-training, by 15.4 points (95% CI")


def test_one_seed_gives_numbers_without_intervals(study_folder: Path, run_of: Callable[..., PlannedRun]) -> None:
    for run in read_study(study_folder).plan.runs:
        if run.levels["seed"] != "0":
            shutil.rmtree(study_folder / "runs" / run.id)
    page = write_report(study_folder)
    assert (
        page.words.headline()
        == "Only one repeat: +3.9 points for two-stage training (TST), without a confidence interval."
    )
    assert page.tables.accuracies().rows[0][2] == "79.4 (1 of 3)"
    assert page.warnings() == ["18 of 54 runs are done; these numbers do not include the others."]


def test_page_of_a_study_without_results(study_folder: Path) -> None:
    shutil.rmtree(study_folder / "runs")
    page = write_report(study_folder)
    assert page.words.headline() == "No pair of runs is complete yet."
    assert not (study_folder / "figures").exists()


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
    assert page.findings.main.settings_used == 7
    assert "(7 complete of 8 settings, 3 seeds)" in page.answer()[0]
    assert "a loss of &lt;b&gt;nan&lt;/b&gt; |" in (study_folder / "report.html").read_text()
    assert r"nan</b> \| at step 41" in (study_folder / "report.md").read_text()


def test_cost_of_pretraining_is_amortized_over_the_runs_that_start_from_it(study_folder: Path) -> None:
    costs = {(cost.levels["stem"], cost.levels["training"]): cost for cost in page_of(study_folder).costs}
    one_stage, two_stage = costs["conv", "OST"], costs["conv", "TST"]
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
    assert html.count("<svg") == html.count("<figure>") == 6
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
    assert len(links) == 6
    assert all((report / link).read_bytes().startswith(b"\x89PNG") for link in links)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| conv stem | two-stage training (TST) | 89.0 ± 2.4 |" in text


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
        "set": {"model.mlp": [1, 2], "pretrain.published": "none", "data.source": "a b"},
    }
    study = replace(page.study.plan.study, mapping=mapping, source="my study.yaml")
    page.study = replace(page.study, plan=replace(page.study.plan, study=study))
    words = shlex.split(page.commands()[0])
    assert words[:5] == ["python", "-m", "recipes", "run", "my study.yaml"]
    assert words[5:-2] == [
        "model.mlp=[1, 2]", "pretrain.published=none", "data.source=a b", "--scale", "digits", "--seeds", "0,3",
    ]  # fmt: skip


def test_page_of_a_study_with_a_single_comparison(study_folder: Path) -> None:
    path = study_folder / "study.yaml"
    content = yaml.safe_load(path.read_text())
    del content["study"]["axes"]["stem"], content["study"]["report"]["compare"]["stem"]
    content["cells"] = [cell for cell in content["cells"] if cell["levels"].pop("stem") == "conv"]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    page = write_report(study_folder)
    assert page.words.headline().endswith("by 3.6 points.")
    assert page.second_answer() == []
    assert page.tables.accuracies().rows[0][0] == "one-stage training (OST)"


def test_curves_skip_an_incomplete_line(study_folder: Path) -> None:
    run = read_study(study_folder).of_stage("pretrain")[0]
    curves = read_curves(run, ["knn_top1", "loss"])
    assert len(curves["loss"]) == 31
    assert curves["knn_top1"][0] == (0.0, 71.0)
    assert len(curves["knn_top1"]) == 7


def test_amounts_other_than_fractions_are_formatted_unchanged(study_folder: Path) -> None:
    findings: Findings = compute_findings(read_study(study_folder))
    assert Words(findings).format_x(0.25) == "25%"
    assert Words(findings).format_x(0.015) == "1.5%"
    with_counts = Findings(**{**vars(findings), "x": ("1", "10", "100")})
    assert Words(with_counts).format_x(10.0) == "10"
