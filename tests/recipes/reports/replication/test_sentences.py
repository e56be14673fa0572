"""Sentences of reports on published tables in situations in which an earlier version was wrong or misleading."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from table_studies import (
    SEED_OFFSETS,
    TABLE1,
    row_axis,
    seed_axis,
    table1_outcome,
    table1_study,
    table_study,
    write_study,
)

from recipes.reports.next_steps import settling_step
from recipes.reports.replication.claims import Outcome
from recipes.reports.replication.page import TablePage
from recipes.reports.report import page_of, render
from recipes.reports.results import StudyRecord
from recipes.study.report_specification import Figure, Pair
from recipes.study.specification import Study

Levels = Mapping[str, str]
Build = Callable[..., TablePage]
PAIR = Pair("the conv stem tolerates lr 1e-3", TABLE1[1], TABLE1[5])


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a function that writes a study of table 1 and returns its page."""

    def page(run_of: Callable[[str, Levels], Mapping[str, Any]], study: Study | None = None) -> TablePage:
        found = page_of(write_study(study or table1_study(), tmp_path, run_of))
        assert isinstance(found, TablePage)
        return found

    return page


def texts(page: TablePage) -> str:
    """Return the Markdown and the HTML of a page, without figures."""
    return "\n".join(render(page, {}).values())


def seed_of(levels: Levels) -> int:
    """Return the seed of a run."""
    return int(levels["seed"])


def row_of(levels: Levels) -> int:
    """Return the number of a run's row."""
    return int(levels["row"][3:])


def test_17_claims_of_a_study_in_which_all_runs_crash(build: Build) -> None:
    page = build(lambda stage, levels: {"crash": 3})
    assert {claim.outcome for claim in page.claims} == {Outcome.INCONCLUSIVE}
    assert {page.words.outcome(claim) for claim in page.claims} == {"inconclusive; both rows diverged"}
    assert page.answer()[0].startswith(
        "Inconclusive here: the conv stem beats patchify at lr 5e-4 (both rows diverged);"
    )
    assert "nan" not in texts(page).replace("the loss was nan", "")


def test_17_rank_correlation_without_ranks_is_not_printed(build: Build) -> None:
    page = build(lambda stage, levels: {"value": 80.0})
    (card,) = [card for card in page.cards() if card.title.startswith("Pairs of rows")]
    assert (card.number, card.interval) == ("–", "no order")
    assert "nan" not in texts(page)
    assert page.tables.rankings(page.agreements).rows[0][-3:] == ["–", "–", "–"]


def test_17_tied_rows_are_not_a_highest_row(build: Build) -> None:
    page = build(lambda stage, levels: {"value": 80.0})
    assert page.words.best_row() == (
        "No best row: all 8 rows are within noise of the highest top-1, % here (80.0). Highest in the paper: conv stem, "
        "lr 0.001, AdamW, warm-up 5."
    )


def test_17_rows_within_noise_are_not_a_highest_row(build: Build) -> None:
    noise = (0.2, 0.1, 0.4, 0.3, 0.5, 0.0, 0.6, 0.7)
    page = build(lambda stage, levels: {"value": 80.0 + noise[row_of(levels)] + 3 * SEED_OFFSETS[seed_of(levels)]})
    assert page.words.best_row().startswith(
        "No best row: all 8 rows are within noise of the highest top-1, % here (80.7)."
    )


def test_17_a_single_highest_row_is_named_if_it_is_significantly_above_the_others(build: Build) -> None:
    gain = (0, 0, 0, 0, 0, 5, 0, 0)
    page = build(lambda stage, levels: {"value": 80.0 + gain[row_of(levels)] + SEED_OFFSETS[seed_of(levels)]})
    assert page.words.best_row() == (
        "Highest top-1, % here: conv stem, lr 0.001, AdamW, warm-up 5 with 85.0 (83.8 to 86.1), significantly above every "
        "other row. Highest in the paper: conv stem, lr 0.001, AdamW, warm-up 5."
    )


def test_17_claim_does_not_hold_because_one_of_two_seeds_crashes(build: Build) -> None:
    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        return {"crash": 9} if (row_of(levels), seed_of(levels)) == (0, 1) else {"value": 80.0 + seed_of(levels)}

    study = table_study([row_axis([TABLE1[1], TABLE1[5]]), seed_axis(2)], Figure("rows"), pairs=(PAIR,))
    page = build(run_of, study)
    assert page.claims[0].outcome is Outcome.INCONCLUSIVE
    assert page.answer()[0] == "Inconclusive here: the conv stem tolerates lr 1e-3 (here 80.5 vs. diverged in 1 of 2)."
    headline = "The study's claim is inconclusive at scale digits: the conv stem tolerates lr 1e-3."
    assert page.words.headline() == headline


def test_17_claim_is_not_decided_by_two_of_three_seeds_that_diverge(build: Build) -> None:
    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        return {"crash": 9} if row_of(levels) == 0 and seed_of(levels) < 2 else {"value": 80.0 + seed_of(levels)}

    study = table_study([row_axis([TABLE1[1], TABLE1[5]]), seed_axis(3)], Figure("rows"), pairs=(PAIR,))
    page = build(run_of, study)
    assert page.claims[0].outcome is Outcome.INCONCLUSIVE
    assert "(here 81.0 vs. diverged in 2 of 3, p = 0.22)" in page.answer()[0]


def survivors(row: int) -> Callable[[str, Levels], Mapping[str, Any]]:
    """Return runs of two rows, the second 4 points above the first, of which seed 3 of `row` diverges."""

    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        crashes = row_of(levels) == row and seed_of(levels) == 3
        return {"crash": 9} if crashes else {"value": 80.0 + 0.1 * seed_of(levels) + 4 * row_of(levels)}

    return run_of


def test_17_claim_never_holds_on_the_runs_alone_that_did_not_diverge(build: Build) -> None:
    study = table_study([row_axis([TABLE1[1], TABLE1[5]]), seed_axis(4)], Figure("rows"), pairs=(PAIR,))
    page = build(survivors(1), study)
    assert page.claims[0].outcome is Outcome.DEPENDS and page.claims[0].interval.low > 0
    text = "Depends on the runs that diverged: the conv stem tolerates lr 1e-3 (here +4.0 (without 1 of 4 runs that diverged; −17.1"
    assert page.answer()[0].startswith(text)
    assert page.words.headline().startswith("The study's claim depends on diverged runs at scale digits")
    assert page.cards()[0].number == "0 of 1"


def test_17_claim_that_holds_with_diverged_runs_at_chance_level_states_both(build: Build) -> None:
    study = table_study([row_axis([TABLE1[1], TABLE1[5]]), seed_axis(4)], Figure("rows"), pairs=(PAIR,))
    page = build(survivors(0), study)
    assert page.claims[0].outcome is Outcome.SAME
    assert "(without 1 of 4 runs that diverged; +24.1 with them at chance level)" in page.answer()[0]


def test_17_half_of_the_runs_of_a_row_do_not_distinguish_it(build: Build) -> None:
    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        return {"crash": 9} if row_of(levels) == 1 and seed_of(levels) == 1 else {"value": 80.0 + row_of(levels)}

    (agreement,) = build(run_of, table1_study(2)).agreements
    assert agreement.distinguished == 0


def test_17_share_of_pairs_is_beside_that_of_chance_wherever_it_is_stated(build: Build) -> None:
    page = build(table1_outcome, table1_study(pairs=()))
    assert page.words.headline() == (
        "24 of 27 pairs of rows are in the paper's order at scale digits; by chance it would be half of them (Kendall's τ "
        "+0.76, p = 0.01)."
    )
    sentence = page.words.ranking_sentence(page.agreements[0])
    assert "by chance half of them would have the same order (Kendall's τ +0.76, p = 0.01" in sentence
    assert sentence.endswith(
        "10 of the 21 pairs differ significantly by themselves, 8 in the paper's order; about 1.1 would if no two rows differed."
    )
    (card,) = [card for card in page.cards() if card.title.startswith("Pairs of rows")]
    assert (card.number, card.interval) == ("89%", "by chance 50%; Kendall's τ +0.76, p = 0.01, 8 rows")


def test_share_of_pairs_and_that_of_chance_leave_out_tied_pairs_wherever_they_are_stated(build: Build) -> None:
    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        value = {0: 90.0, 4: 91.0, 5: 92.0}.get(row_of(levels))
        return {"crash": 9} if value is None else {"value": value + SEED_OFFSETS[seed_of(levels)]}

    page = build(run_of, table1_study(pairs=()))
    (found,) = page.agreements
    assert (found.same, found.opposite, found.tied) == (15, 3, 9)
    assert page.words.headline().startswith(
        "15 of 18 pairs of rows are in the paper's order at scale digits, without 9 tied pairs; by chance it would be half of "
        "them ("
    )
    assert page.words.ranking_sentence(found).startswith(
        "Of the 27 pairs of rows that the paper orders, 15 have the same order here, 3 the opposite order, and 9 are tied; by "
        "chance half of the 18 others would have the same order (Kendall's"
    )
    (card,) = [card for card in page.cards() if card.title.startswith("Pairs of rows")]
    assert card.number == "83%"
    assert card.interval.startswith("by chance 50%; Kendall's") and card.interval.endswith(
        ", 8 rows, without 9 tied pairs"
    )
    (line,) = page.tables.rankings(page.agreements).rows
    assert line[2:7] == ["27", "15", "3", "9", "9"]


def test_17_no_share_of_pairs_is_stated_of_noise(build: Build) -> None:
    noise = (0.30, -0.10, 0.25, 0.04, -0.20, 0.11, -0.03, 0.08)
    page = build(
        lambda stage, levels: {"value": 80.0 + noise[row_of(levels)] + 3 * SEED_OFFSETS[seed_of(levels)]},
        table1_study(pairs=()),
    )
    assert page.words.headline().startswith("No best row: all 8 rows are within noise")
    sentence = page.words.ranking_sentence(page.agreements[0])
    assert sentence.startswith("Our runs do not order the rows (Kendall's τ with the paper: p = ")
    assert "None of the 27 pairs differs significantly by itself; about 1.4 would if no two rows differed." in sentence
    (card,) = [card for card in page.cards() if card.title.startswith("Pairs of rows")]
    assert card.number == "–" and "Rank, ours" not in page.tables.rows().header


def test_two_seeds_decide_no_claim(build: Build) -> None:
    page = build(lambda stage, levels: {"value": 80.0 + row_of(levels) + 0.1 * seed_of(levels)}, table1_study(2))
    assert {claim.outcome for claim in page.claims} == {Outcome.INCONCLUSIVE}
    assert any(warning.endswith("no difference counts as significant.") for warning in page.warnings())


def test_inconclusive_claims_give_the_seeds_that_would_settle_them(build: Build) -> None:
    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        return {"value": 80.0 + 0.4 * row_of(levels) + SEED_OFFSETS[seed_of(levels)]}

    study = table_study([row_axis([TABLE1[1], TABLE1[5]]), seed_axis(3)], Figure("rows"), pairs=(PAIR,))
    page = build(run_of, study)
    step = settling_step(page.claims[0].interval, None, claims=1)
    assert step is not None and step.seeds is not None and step.seeds > 3
    assert page.words.headline().endswith(f"; {step.seeds} seeds in all would settle it if its estimate holds.")
    assert page.answer()[0].endswith(f"; about {step.seeds} seeds in all would settle it).")


def test_intervals_without_predictions_are_said_to_be_over_seeds_alone_and_why(build: Build) -> None:
    page = build(table1_outcome)
    (sentence,) = [sentence for sentence in page.answer() if sentence.startswith("The intervals")]
    assert sentence.startswith("The intervals cover the seeds alone, for these test images: finetune-row00-seed0-")
    assert sentence.endswith(" has no predictions.parquet.")
    assert "95% CI over seeds alone" in page.tables.claims(page.claims).header
    assert any("the test images are taken as fixed" in note for note in page.notes())


def test_sentences_list_at_most_six_rows_or_claims(build: Build) -> None:
    rows = [{"stem": f"stem{number:02d}"} for number in range(50)]
    pairs = tuple(Pair(f"claim {number}", rows[number], rows[number + 1]) for number in range(20))
    study = table_study([row_axis(rows), seed_axis(3)], Figure("rows"), pairs=pairs)

    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        crashes = row_of(levels) % 5 == 0 and seed_of(levels) == 0
        return {"crash": 9} if crashes else {"value": 80.0 + 0.01 * row_of(levels) + SEED_OFFSETS[seed_of(levels)]}

    page = build(run_of, study)
    for sentence in [page.words.headline(), *page.answer()]:
        assert len(re.findall(r"stem\d\d", sentence)) <= 6 and len(re.findall(r"claim \d", sentence)) <= 6
    assert "; and 4 more)" in " ".join(page.answer()) and len(page.words.headline()) < 250


def test_long_tables_are_folded(build: Build) -> None:
    rows = [{"stem": f"stem{number:02d}"} for number in range(41)]
    values = {"value": 80.0}
    long = build(lambda stage, levels: values, table_study([row_axis(rows), seed_axis(1)], Figure("rows")))
    assert "<details><summary>41 rows</summary>" in render(long, {})["report.html"]
    short = build(lambda stage, levels: values, table_study([row_axis(rows[:40]), seed_axis(1)], Figure("rows")))
    assert "<details><summary>40 rows</summary>" not in render(short, {})["report.html"]


@pytest.mark.parametrize(("match", "is_noted"), [("none", True), ("compute", False)])
def test_arms_of_a_replication_are_said_not_to_be_matched(build: Build, match: str, is_noted: bool) -> None:
    page = build(table1_outcome)
    page.study = _with_match(page.study, match)
    assert any(note.endswith("The arms are not matched in compute.") for note in page.notes()) is is_noted
    assert any("(recipes/studies/scales/digits.yaml)" in note for note in page.notes()) is is_noted


def test_arms_of_a_table_without_published_values_are_said_not_to_be_matched(build: Build) -> None:
    page = build(table1_outcome, table_study([row_axis(TABLE1), seed_axis(3)], Figure("rows")))
    assert "The arms are not matched in compute." in page.notes()


def _with_match(record: StudyRecord, match: str) -> StudyRecord:
    """Return the record of a study with arms that are matched as given."""
    study = replace(record.plan.study)
    object.__setattr__(study, "match", match)  # also where a study has no such field
    return replace(record, plan=replace(record.plan, study=study))
