"""Recommendation between training from scratch and further starts: for every combination of outcomes, and what it names."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparison_studies import SCATTER, interval_of, page_of
from starts_study import write_starts

from recipes.reports.comparison.claims import Claim, Outcome
from recipes.reports.comparison.decision import SETTLED, STRICT
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.open_claims import SeedCost
from recipes.reports.comparison.recommendation import OPEN, Simpler
from recipes.reports.comparison.saving_words import ComparisonWords
from recipes.reports.comparison.start_decision import Use
from recipes.reports.comparison.start_recommendation import StartRecommendation

SIZES = {"effect": 3.1, "saving": 4.2, "alternative": 5.3, "start": 6.4, "continued": 7.5}
"""Size of a significant difference, by claim."""
OF_SCRATCH = (Outcome.BETTER, Outcome.WORSE, Outcome.EQUIVALENT, Outcome.INCONCLUSIVE)
PUBLIC, CONTINUED = ({"stem": "patchify", "training": name} for name in ("public", "continued"))


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Return the findings of the study of four starts without any effect, of which the tests replace the claims."""
    record = write_starts(
        tmp_path_factory.mktemp("study"), with_report=True, values=lambda at: 90 + SCATTER[at["seed"]]
    )
    return page_of(record).findings


def with_outcomes(findings: Findings, outcomes: Mapping[str, Outcome], scratch: Mapping[str, str]) -> Findings:
    """Return findings whose claims have these outcomes, with another training from scratch for the start."""
    assert findings.starts is not None
    starts = replace(findings.starts, scratch=scratch)
    stem, x = scratch["stem"], findings.spec.x
    arms: dict[str, tuple[Mapping[str, str], ...]] = {
        **{name: tuple({"stem": stem, "training": level} for level in ("OST", "TST")) for name in ("effect", "saving")},
        "alternative": ({"stem": "conv", "training": "OST"}, {"stem": "patchify", "training": "TST"}),
        **starts.pairs,
    }
    claims = []
    for name, outcome in outcomes.items():
        levels = {"stem": stem} if name in ("effect", "saving") else {}
        cells = tuple({**arm, x: each} for arm in arms[name] for each in findings.x)
        claims.append(Claim(name, levels, cells, interval_of(SIZES[name], outcome), 0.01, None, outcome))
    values = findings.values
    if outcomes["start"] is Outcome.ALL_DIVERGED:
        values = replace(values, cells={}, diverged=values.planned)
    return replace(findings, claims=tuple(claims), starts=starts, values=values)


def recommend(found: Findings) -> StartRecommendation:
    """Return the recommendation of findings; a run takes 60 seconds from scratch and 30 from public weights."""
    seconds = {"OST": 60.0, "TST": 60.0, "public": 30.0, "continued": 40.0}
    return StartRecommendation(
        ComparisonWords(found),
        SeedCost(12, 1800.0),
        Simpler("OST", "needs another stage"),
        lambda arm: seconds[arm["training"]],
    )


def outcomes(start: Outcome, continued: Outcome | None, **others: Outcome) -> dict[str, Outcome]:
    """Return the outcomes by claim; the other claims are inconclusive."""
    before = dict.fromkeys(("effect", "saving", "alternative"), Outcome.INCONCLUSIVE) | others
    return {**before, "start": start, **({"continued": continued} if continued is not None else {})}


def better_arms(found: Findings) -> list[tuple[Mapping[str, str], Mapping[str, str]]]:
    """Return the pairs (winner, loser) of arms that a claim compares, averaged over all amounts."""
    assert found.starts is not None
    pairs = []
    for claim in found.claims:
        if claim.outcome not in STRICT or claim.name == "saving":
            continue
        ends = found.starts.pairs.get(claim.name) or (
            ({"stem": "patchify", "training": "TST"}, {"stem": "conv", "training": "OST"})
            if claim.name == "alternative"
            else ({**claim.levels, "training": "OST"}, {**claim.levels, "training": "TST"})
        )
        base, other = ends
        pairs.append((other, base) if claim.outcome is Outcome.BETTER else (base, other))
    return pairs


@pytest.mark.parametrize("stem", ["patchify", "conv"])
@pytest.mark.parametrize("training", ["OST", "TST"])
def test_no_sentence_contradicts_the_claims(findings: Findings, stem: str, training: str) -> None:
    scratch = {"stem": stem, "training": training}
    for start, continued in itertools.product(Outcome, [*Outcome, None]):
        for effect, alternative in itertools.product(OF_SCRATCH, repeat=2):
            own = outcomes(start, continued, effect=effect, alternative=alternative)
            found = with_outcomes(findings, own, scratch)
            recommendation = recommend(found)
            text, use = recommendation.sentence(), recommendation.use
            losers = [loser for _, loser in better_arms(found)]
            is_beaten = any(
                loser == scratch and winner not in (PUBLIC, CONTINUED) for winner, loser in better_arms(found)
            )
            assert re.fullmatch(r"[A-Z][^{}]*[^ .,;:]\.", text), text
            assert not re.search(r"  |nan|None|\.\.|, ,|;,|, which outperforms .*, which", text), text
            assert text.count("(") == text.count(")"), text
            is_open = use in (Use.OPEN, Use.SCRATCH_OR_CONTINUED, Use.NOT_COMPARED)
            assert text.startswith(OPEN) is is_open, text
            assert is_open or start in SETTLED, text
            for name, size in SIZES.items():  # the size of a difference is stated of significant ones alone
                assert own.get(name) in STRICT or f"{size} points" not in text, text
            assert ("equivalent" in text) <= (Outcome.EQUIVALENT in (start, continued)), text
            assert ("adds nothing" in text) is (continued is Outcome.EQUIVALENT), text
            if is_beaten:
                assert "best training from scratch" not in text, text
            assert text.startswith("Train from scratch") is (use in (Use.SCRATCH, Use.SCRATCH_OR_START)), text
            if use is Use.START:  # nothing that a claim compares with it is better, and it beats all that is beaten
                assert PUBLIC not in losers and start is Outcome.BETTER and not is_beaten, text
                assert text.startswith("Start from public weights: "), text
            if use is Use.CONTINUED:
                assert continued is Outcome.BETTER and start is not Outcome.WORSE and not is_beaten, text
                assert text.startswith("Start from continued pre-training: "), text
            if use in (Use.SCRATCH, Use.SCRATCH_OR_START):
                assert start is not Outcome.BETTER and continued is not Outcome.BETTER, text
            among = recommendation.certainty()[0]
            assert among.startswith("Among the trainings from scratch: ") and among[34].islower(), among


CONV_TST = {"stem": "conv", "training": "TST"}


def sentence(findings: Findings, start: Outcome, continued: Outcome | None, **others: Outcome) -> str:
    """Return the sentence with a start compared with the conv stem and two stages."""
    return recommend(with_outcomes(findings, outcomes(start, continued, **others), CONV_TST)).sentence()


def test_public_weights_that_continued_pre_training_does_not_improve(findings: Findings) -> None:
    assert sentence(findings, Outcome.BETTER, Outcome.EQUIVALENT) == (
        "Start from public weights: it outperforms the best training from scratch (conv stem, two-stage training (TST)) by "
        "6.4 points (5.8 to 7.0); starting from continued pre-training adds nothing (+0.1 points, −0.4 to +0.7, equivalent "
        "within 1 point) and needs another stage."
    )


def test_continued_pre_training_that_is_best(findings: Findings) -> None:
    assert sentence(findings, Outcome.BETTER, Outcome.BETTER) == (
        "Start from continued pre-training: it outperforms starting from public weights by 7.5 points (6.9 to 8.1), which "
        "outperforms the best training from scratch (conv stem, two-stage training (TST)) by 6.4 points (5.8 to 7.0)."
    )


def test_training_from_scratch_that_is_best(findings: Findings) -> None:
    assert sentence(findings, Outcome.WORSE, Outcome.WORSE) == (
        "Train from scratch: the best training from scratch (conv stem, two-stage training (TST)) outperforms starting from public "
        "weights by 6.4 points (5.8 to 7.0); starting from continued pre-training is worse than starting from public weights by "
        "7.5 points (6.9 to 8.1)."
    )
    assert sentence(findings, Outcome.WORSE, None).endswith("public weights by 6.4 points (5.8 to 7.0).")
    assert sentence(findings, Outcome.WORSE, Outcome.INCONCLUSIVE).startswith(
        "Train from scratch rather than start from public weights: the best"
    )


def test_equivalent_starts_are_named_with_their_costs(findings: Findings) -> None:
    assert sentence(findings, Outcome.EQUIVALENT, None) == (
        "Train from scratch or start from public weights, neither is better: starting from public weights and the best training "
        "from scratch (conv stem, two-stage training (TST)) are equivalent within 1 point (+0.1 points, −0.4 to +0.7); a run in "
        "all of its stages takes 60 s from scratch and 30 s from public weights, whose own training is not counted."
    )


def test_two_starts_that_no_claim_compares(findings: Findings) -> None:
    assert sentence(findings, Outcome.WORSE, Outcome.BETTER) == (
        "Not enough evidence yet to choose between starting from continued pre-training and the best training from scratch (conv "
        "stem, two-stage training (TST)): they outperform starting from public weights by 7.5 points (6.9 to 8.1) and by 6.4 "
        "points (5.8 to 7.0), and no claim compares them with each other."
    )


def test_training_from_scratch_that_another_one_outperforms_is_not_the_best(findings: Findings) -> None:
    assert sentence(findings, Outcome.BETTER, None, effect=Outcome.WORSE) == (
        "Not enough evidence yet to choose between a start and another training from scratch, which no claim compares: starting "
        "from public weights outperforms the training from scratch that validation images prefer (conv stem, two-stage training "
        "(TST)) by 6.4 points (5.8 to 7.0), and so does another training from scratch."
    )


def test_open_claim_is_named_with_the_way_to_settle_it(findings: Findings) -> None:
    text = sentence(findings, Outcome.INCONCLUSIVE, Outcome.WORSE)
    assert re.match(
        r"Not enough evidence yet: about \d+ more seeds \(\d+ runs, about [\d.]+ (min|h)\) would settle whether starting from "
        r"public weights is better than the best training from scratch \(conv stem, two-stage training \(TST\)\), if the "
        r"estimate holds",
        text,
    ), text
    assert text.endswith(
        "; starting from continued pre-training is worse than starting from public weights by 7.5 points (6.9 to 8.1)."
    )


def page(folder: Path, gains: Mapping[str, float], **options: Any) -> Any:
    """Return the page of the study in which each start gains so many points, the conv stem one point."""

    def value(at: Mapping[str, str]) -> float:
        return 80 + SCATTER[at["seed"]] + gains[at["training"]] + (at["stem"] == "conv")

    return page_of(write_starts(folder, with_report=True, values=value, **options))


def test_page_of_four_starts_begins_with_the_answer(tmp_path: Path) -> None:
    found = page(tmp_path, {"OST": 0.0, "TST": 3.0, "public": 12.0, "continued": 12.1})
    claims = {claim.name: claim for claim in found.findings.claims}
    assert claims["start"].interval.mean == pytest.approx(8.0) and claims["continued"].interval.mean == pytest.approx(
        0.1
    )
    assert found.findings.starts.scratch == CONV_TST and claims["effect"].levels == {"stem": "conv"}
    assert found.advice()[0].startswith("Start from public weights: it outperforms the best training from scratch")
    assert found.advice()[1].startswith("Among the trainings from scratch: with the conv stem, use two-stage training")
    assert [card.conclusion for card in found.cards()[:2]] == ["yes", "equivalent"]
    text = " ".join(found.answer())
    assert "begin with is not part of any budget or cost here." in text and "test images do not choose it" in text
    assert "public weights and continued pre-training are limited to the same number of MACs" in text


def test_p_values_are_adjusted_for_all_five_claims(tmp_path: Path) -> None:
    found = page(tmp_path, {"OST": 0.0, "TST": 0.3, "public": 0.6, "continued": 0.9}).findings
    raw = [claim.interval.p_value for claim in found.claims]
    assert len(raw) == 5 and min(claim.p_value for claim in found.claims) == pytest.approx(5 * min(raw))


def test_a_study_with_the_first_start_alone(tmp_path: Path) -> None:
    mapping: dict[str, Any] = {"OST": 0.0, "TST": 3.0, "public": -4.0}
    from starts_study import starts_mapping

    study = starts_mapping(with_report=True)
    del study["axes"]["training"]["levels"]["continued"], study["stages"]["continue"]
    study["report"]["starts"] = ["public"]
    changes = {name: study[name] for name in ("axes", "stages", "report")}
    changes["without"] = [{"training": "public", "stem": "conv"}]

    def value(at: Mapping[str, str]) -> float:
        return 80 + SCATTER[at["seed"]] + float(mapping[at["training"]]) + (at["stem"] == "conv")

    found = page_of(write_starts(tmp_path, values=value, **changes))
    assert [claim.name for claim in found.findings.claims] == ["effect", "saving", "alternative", "start"]
    assert found.advice()[0].startswith("Train from scratch: the best training from scratch (conv stem, two-stage")
