"""Sentences of reports on published tables in situations in which an earlier version was wrong or misleading."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from table_studies import TABLE1, row_axis, seed_axis, table1_outcome, table1_study, table_study, write_study

from recipes.reports.replication.claims import Outcome
from recipes.reports.replication.page import TablePage
from recipes.reports.report import page_of, render
from recipes.reports.results import StudyRecord
from recipes.study.specification import Figure, Pair, Study

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
    assert {page.words.outcome(claim) for claim in page.claims} == {"inconclusive; both crash here"}
    assert "crash only here)" not in page.answer()[0] and "crash; crash" not in texts(page)
    assert "+nan" not in texts(page) and "τ nan" not in texts(page)


def test_17_rank_correlation_without_ranks_is_not_printed(build: Build) -> None:
    page = build(lambda stage, levels: {"value": 80.0})
    (card,) = [card for card in page.cards() if card.title.startswith("Pairs of rows")]
    assert card.interval == "8 rows, 27 pairs tied; by chance 50%"
    assert "nan" not in texts(page).replace("distinguish", "")
    assert page.tables.rankings(page.agreements).rows[0][-2:] == ["–", "–"]


def test_17_tied_rows_are_not_a_highest_row(build: Build) -> None:
    page = build(lambda stage, levels: {"value": 80.0})
    assert page.words.best_row() == (
        "Highest top-1, % here: 8 rows are tied at 80.0; in the paper: conv stem, lr 0.001, AdamW, warm-up 5 with 81.9."
    )


def test_17_a_single_highest_row_is_named(build: Build) -> None:
    page = build(table1_outcome)
    assert page.words.best_row() == (
        "Highest top-1, % here: conv stem, lr 0.001, AdamW, warm-up 5 with 94.0 ± 1.1; in the paper: the same row with 81.9."
    )


def test_17_claim_does_not_hold_because_one_of_two_seeds_crashes(build: Build) -> None:
    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        return {"crash": 9} if (row_of(levels), seed_of(levels)) == (0, 1) else {"value": 80.0 + seed_of(levels)}

    study = table_study([row_axis([TABLE1[1], TABLE1[5]]), seed_axis(2)], Figure("rows"), pairs=(PAIR,))
    page = build(run_of, study)
    assert page.claims[0].outcome is Outcome.INCONCLUSIVE
    assert page.answer()[0] == "Inconclusive here: the conv stem tolerates lr 1e-3 (here 80.5 vs. crash (1 of 2))."
    assert page.words.headline() == "The paper's claim is inconclusive here."


def test_17_claim_that_holds_by_crashes_gives_their_count(build: Build) -> None:
    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        return {"crash": 9} if row_of(levels) == 0 and seed_of(levels) < 2 else {"value": 80.0 + seed_of(levels)}

    study = table_study([row_axis([TABLE1[1], TABLE1[5]]), seed_axis(3)], Figure("rows"), pairs=(PAIR,))
    page = build(run_of, study)
    assert page.claims[0].outcome is Outcome.SAME
    assert "(here 81.0 vs. crash (2 of 3))" in page.answer()[0]


def test_17_difference_of_survivors_gives_the_count_of_crashes(build: Build) -> None:
    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        crashes = row_of(levels) == 0 and seed_of(levels) == 3
        return {"crash": 9} if crashes else {"value": 80.0 + seed_of(levels) + 4 * row_of(levels)}

    study = table_study([row_axis([TABLE1[1], TABLE1[5]]), seed_axis(4)], Figure("rows"), pairs=(PAIR,))
    assert "(here +4.0 (without 1 of 4 runs that crashed))" in build(run_of, study).answer()[0]


def test_17_half_of_the_runs_of_a_row_do_not_distinguish_it(build: Build) -> None:
    def run_of(stage: str, levels: Levels) -> Mapping[str, Any]:
        return {"crash": 9} if row_of(levels) == 1 and seed_of(levels) == 1 else {"value": 80.0 + row_of(levels)}

    (agreement,) = build(run_of, table1_study(2)).agreements
    assert agreement.distinguished_same + agreement.distinguished_opposite == 0


def test_17_share_of_pairs_is_beside_that_of_chance(build: Build) -> None:
    noise = (3.0, -1.0, 2.5, 0.4, -2.0, 1.1, -0.3, 0.8)
    page = build(lambda stage, levels: {"value": 80.0 + noise[row_of(levels)] + 0.1 * seed_of(levels)})
    assert "By chance half of the pairs would have the same order" in page.words.ranking_sentence(page.agreements[0])
    (card,) = [card for card in page.cards() if card.title.startswith("Pairs of rows")]
    assert card.number.endswith("%") and card.interval.endswith("8 rows; by chance 50%")


def test_17_headline_of_an_order_alone_has_chance_beside_it(build: Build) -> None:
    study = table_study([row_axis(TABLE1), seed_axis(3)], Figure("rows"), table="scaled_relu_table1")
    page = build(table1_outcome, study)
    assert (
        page.words.headline() == "24 of 27 pairs of rows are in the paper's order; by chance it would be half of them."
    )


def test_two_seeds_decide_no_claim(build: Build) -> None:
    page = build(lambda stage, levels: {"value": 80.0 + row_of(levels) + 0.1 * seed_of(levels)}, table1_study(2))
    assert {claim.outcome for claim in page.claims} == {Outcome.INCONCLUSIVE}
    assert any(warning.endswith("no difference counts as significant.") for warning in page.warnings())


def test_intervals_are_said_to_be_over_seeds_and_not_test_images(build: Build) -> None:
    page = build(table1_outcome)
    (note,) = [note for note in page.notes() if note.startswith("± is the half-width")]
    assert "over 3 seeds, and not over test images: it is for these test images alone." in note
    (claims,) = [note for note in page.notes() if note.startswith("A claim holds")]
    assert "The interval does not cover the sampling of test images" in claims
    assert "95% CI over seeds" in page.tables.claims(page.claims).header


@pytest.mark.parametrize(("match", "is_noted"), [("none", True), ("compute", False)])
def test_arms_of_a_replication_are_said_not_to_be_matched(build: Build, match: str, is_noted: bool) -> None:
    page = build(table1_outcome)
    page.study = _with_match(page.study, match)
    assert ("The arms are as the paper's recipes, not matched in compute." in page.notes()) is is_noted


def test_arms_of_a_table_without_published_values_are_said_not_to_be_matched(build: Build) -> None:
    page = build(table1_outcome, table_study([row_axis(TABLE1), seed_axis(3)], Figure("rows")))
    assert "The arms are not matched in compute." in page.notes()


def _with_match(record: StudyRecord, match: str) -> StudyRecord:
    """Return the record of a study with arms that are matched as given."""
    study = replace(record.plan.study)
    object.__setattr__(study, "match", match)  # also where a study has no such field
    return replace(record, plan=replace(record.plan, study=study))
