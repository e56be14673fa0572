"""The recommendation: for every combination of outcomes a sentence that claims nothing beyond them; what it names in each case."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparison_studies import SCATTER, comparison_study, interval_of, page_of, write_comparison

from recipes.reports.arm_costs import MACS
from recipes.reports.comparison.claims import Claim, Outcome
from recipes.reports.comparison.decision import SETTLED, STRICT, Basis, decide
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.open_claims import SeedCost
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.comparison.recommendation import OPEN, Recommendation, Simpler
from recipes.reports.comparison.saving_words import ComparisonWords

SIZES = {"effect": 3.1, "saving": 4.2, "alternative": 5.3}
"""Size of a significant difference, by claim."""
ONE_STAGE = Simpler("OST", "needs another stage")
TWO_STAGE = Simpler("TST", "takes 2.0 times as long")
SEED = SeedCost(18, 1800.0)


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """Return the findings of a study without any effect, of which the tests replace the claims."""
    record = write_comparison(comparison_study(), tmp_path_factory.mktemp("study"), lambda at: 90 + SCATTER[at["seed"]])
    return page_of(record).findings


def with_outcomes(
    findings: Findings, outcomes: Mapping[str, Outcome], stem: str = "patchify", **changes: Any
) -> Findings:
    """Return findings whose claims have these outcomes, the effect in the panel of a stem."""
    main, x = findings.main, findings.spec.x
    claims = []
    for name, outcome in outcomes.items():
        levels = {} if name == "alternative" else {"stem": stem}
        ends = {"OST": "conv", "TST": "patchify"} if name == "alternative" else {"OST": stem, "TST": stem}
        cells = tuple({"stem": own, main.axis: level, x: each} for level, own in ends.items() for each in findings.x)
        claims.append(Claim(name, levels, cells, interval_of(SIZES[name], outcome), 0.01, None, outcome))
    if outcomes["effect"] is Outcome.ALL_DIVERGED:
        changes["values"] = replace(findings.values, cells={}, diverged=findings.values.planned)
    return replace(findings, claims=tuple(claims), **changes)


def recommend(found: Findings, simpler: Simpler | None = ONE_STAGE) -> Recommendation:
    """Return the recommendation of findings."""
    return Recommendation(ComparisonWords(found), SEED, simpler)


def outcomes(effect: Outcome, saving: Outcome, alternative: Outcome) -> dict[str, Outcome]:
    """Return the outcomes by claim."""
    return {"effect": effect, "saving": saving, "alternative": alternative}


def beaten(found: Findings) -> list[Mapping[str, str]]:
    """Return the arms that another one significantly outperforms, averaged over all amounts."""
    losers = []
    for claim in found.claims:
        if claim.outcome in STRICT and claim.name != "saving":
            base = {"stem": "patchify", "training": "TST"} if not claim.levels else {**claim.levels, "training": "OST"}
            other = {"stem": "conv", "training": "OST"} if not claim.levels else {**claim.levels, "training": "TST"}
            losers.append(base if claim.outcome is Outcome.BETTER else other)
    return losers


@pytest.mark.parametrize("stem", ["patchify", "conv"])
@pytest.mark.parametrize("simpler", [ONE_STAGE, TWO_STAGE, None])
def test_no_sentence_contradicts_the_claims(findings: Findings, stem: str, simpler: Simpler | None) -> None:
    for combination in itertools.product(Outcome, repeat=3):
        own = outcomes(*combination)
        found = with_outcomes(findings, own, stem)
        recommendation = recommend(found, simpler)
        text, decision = recommendation.sentence(), recommendation.decision
        assert re.fullmatch(r"[A-Z][^{}]*[^ .,;:]\.", text) and not re.search(r"  |nan|None|\.\.|, ,|;,", text), text
        assert text.count("(") == text.count(")"), text
        is_supported = own["effect"] in SETTLED or STRICT[0] in combination or STRICT[1] in combination
        assert text.startswith(OPEN) is not is_supported, text
        for name, size in SIZES.items():  # the size of a difference is stated of significant ones alone
            assert own[name] in STRICT or f"{size} points" not in text, text
        assert ("adds nothing" in text or "equivalent" in text) <= (own["effect"] is Outcome.EQUIVALENT), text
        assert dict(decision.use) not in beaten(found) or decision.basis is Basis.SAVING, text
        if not is_supported:
            assert not re.search(r"\buse\b|prefer|outperforms|is better by|adds nothing", text), text
        if decision.exception:
            assert own["saving"] is (Outcome.BETTER if decision.exception == "TST" else Outcome.WORSE), text


def test_arm_that_both_claims_support(findings: Findings) -> None:
    found = with_outcomes(
        findings, outcomes(Outcome.EQUIVALENT, Outcome.INCONCLUSIVE, Outcome.BETTER), "conv", match="compute"
    )
    assert recommend(found).sentence() == (
        "Use the conv stem with one-stage training (OST): it outperforms the patchify stem with two-stage training (TST) by "
        "5.3 points (4.7 to 5.9), and two-stage training (TST) adds nothing there (+0.1 points, −0.4 to +0.7, equivalent within "
        "1 point) and needs another stage."
    )
    assert recommend(found).certainty() == [
        "2 of 3 declared claims are conclusive (95% confidence, over 3 seeds alone, not over the sampling of the test images), "
        "each arm within the same budget of MACs.",
        "It is not known whether longer training would change this.",
    ]


def test_arm_that_is_best_of_a_chain(findings: Findings) -> None:
    found = with_outcomes(findings, outcomes(Outcome.WORSE, Outcome.WORSE, Outcome.WORSE))
    assert recommend(found).sentence() == (
        "Use the patchify stem with one-stage training (OST): it outperforms two-stage training (TST) there by 3.1 points "
        "(2.5 to 3.7), and the patchify stem with two-stage training (TST) outperforms the conv stem with one-stage training "
        "(OST) by 5.3 points (4.7 to 5.9)."
    )


def test_better_side_of_the_alternative_is_preferred_to_the_arm_that_the_effect_supports(findings: Findings) -> None:
    found = with_outcomes(findings, outcomes(Outcome.BETTER, Outcome.EQUIVALENT, Outcome.BETTER))
    assert recommend(found).sentence() == (
        "Prefer the conv stem with one-stage training (OST) to the patchify stem with two-stage training (TST): it is better by "
        "5.3 points (4.7 to 5.9); with the patchify stem, two-stage training (TST) is better by 3.1 points (2.5 to 3.7)."
    )


def test_opposite_effect_at_the_declared_amount_is_an_exception(findings: Findings) -> None:
    found = with_outcomes(findings, outcomes(Outcome.WORSE, Outcome.BETTER, Outcome.INCONCLUSIVE))
    assert recommend(found).sentence() == (
        "With the patchify stem, use one-stage training (OST): it outperforms two-stage training (TST) by 3.1 points (2.5 to 3.7); "
        "but with 10% (100 labels), use two-stage training (TST), which is better there by 4.2 points (3.6 to 4.8)."
    )


def test_effect_at_the_declared_amount_alone(findings: Findings) -> None:
    found = with_outcomes(findings, outcomes(Outcome.INCONCLUSIVE, Outcome.BETTER, Outcome.INCONCLUSIVE))
    text = recommend(found).sentence()
    assert text.startswith(
        "With the patchify stem and 10% (100 labels), use two-stage training (TST): it outperforms one-stage training (OST) by "
        "4.2 points (3.6 to 4.8); averaged over all amounts, whether two-stage training (TST) is better than one-stage training "
        "(OST) is open (about "
    )


def test_equivalent_arms_of_which_neither_is_simpler(findings: Findings) -> None:
    found = with_outcomes(findings, outcomes(Outcome.EQUIVALENT, Outcome.EQUIVALENT, Outcome.EQUIVALENT))
    assert recommend(found, None).sentence() == (
        "With the patchify stem, use one-stage training (OST) or two-stage training (TST): they are equivalent within 1 point "
        "(+0.1 points, −0.4 to +0.7)."
    )
    assert (
        "use two-stage training (TST): one-stage training (OST) adds nothing" in recommend(found, TWO_STAGE).sentence()
    )


@pytest.mark.parametrize(
    ("outcome", "what"),
    [
        (Outcome.INCONCLUSIVE, r"about \d+ more seeds \(\d+ runs, about [\d.]+ (min|h)\) would settle whether"),
        (Outcome.FEW_SEEDS, r"2 seeds are too few, at least 3 are needed; add 1 more seed \(18 runs, about 30 min\)\."),
        (Outcome.DEPENDS_ON_DIVERGED, "depends on the runs that diverged; make them converge first"),
    ],
)
def test_what_is_open_is_named_with_the_way_to_settle_it(findings: Findings, outcome: Outcome, what: str) -> None:
    text = recommend(with_outcomes(findings, outcomes(outcome, outcome, outcome))).sentence()
    assert text.startswith(f"{OPEN}: ") and re.search(what, text), text


def test_budget_is_named_where_an_arm_has_not_converged(findings: Findings, monkeypatch: pytest.MonkeyPatch) -> None:
    def has_converged(self: Findings, levels: Mapping[str, str]) -> bool:
        return (levels["stem"], levels["training"]) != ("patchify", "OST")

    monkeypatch.setattr(Findings, "has_converged", has_converged)
    claims = outcomes(Outcome.BETTER, Outcome.BETTER, Outcome.INCONCLUSIVE)
    recommendation = recommend(with_outcomes(findings, claims))
    assert recommendation.sentence().startswith("At this budget, with the patchify stem, use two-stage training (TST)")
    assert recommendation.certainty()[1].startswith(
        "Not converged at this budget: patchify stem, one-stage training (OST) with"
    )
    assert recommend(with_outcomes(findings, claims, "conv")).sentence().startswith("With the conv stem, use")
    monkeypatch.setattr(Findings, "has_converged", lambda self, levels: True)
    assert len(recommend(with_outcomes(findings, claims)).certainty()) == 1


def study_page(folder: Path, gains: Mapping[str, float], *, conv: float = 0.0, **options: Any) -> ComparisonPage:
    """Return the page of a study in which two-stage training gains so many points with each stem, and the conv stem `conv`."""

    def value(at: Mapping[str, str]) -> float:
        return 80 + SCATTER[at["seed"]] + gains[at["stem"]] * (at["training"] == "TST") + conv * (at["stem"] == "conv")

    return page_of(write_comparison(comparison_study(**options.pop("study", {})), folder, value, **options))


def test_opposite_effects_by_stem_are_named_with_the_stem(tmp_path: Path) -> None:
    text = study_page(tmp_path, {"patchify": 4.0, "conv": -4.0}).recommendation.sentence()
    assert text.startswith("Use the patchify stem with two-stage training (TST): it outperforms the conv stem")
    assert "; one-stage training (OST) is better with the conv stem by 4.0 points (" in text
    assert text.endswith("which is exploratory.")
    assert "exploratory" not in study_page(tmp_path / "same", {"patchify": 4.0, "conv": 4.0}).recommendation.sentence()


def test_an_arm_that_is_preferred_is_not_left_with_the_effect_of_the_other_stem_alone(tmp_path: Path) -> None:
    text = study_page(tmp_path, {"patchify": 3.0, "conv": -3.0}, conv=10.0).recommendation.sentence()
    assert text.startswith("Prefer the conv stem with one-stage training (OST) to the patchify stem with two-stage")
    assert "; with the patchify stem, two-stage training (TST) is better by 3.0 points (" in text
    assert re.search(
        r"; one-stage training \(OST\) is better with the conv stem by 3\.0 points .*, which is exploratory\.$", text
    )


def test_a_better_stem_for_the_recommended_stage_is_named(tmp_path: Path) -> None:
    """The declared claims compare stages with one stem: they are silent on the same stage with the other one."""
    text = study_page(tmp_path / "better", {"patchify": -5.0, "conv": -9.0}, conv=8.0).recommendation.sentence()
    assert text.startswith(
        "With the patchify stem, use one-stage training (OST): it outperforms two-stage training (TST)"
    )
    assert re.search(
        r"; with one-stage training \(OST\), the conv stem outperforms the patchify stem by 8\.0 points \(.*, which is"
        r" exploratory\.$",
        text,
    )
    for number, (gains, conv) in enumerate(
        (
            ({"patchify": -5.0, "conv": -5.0}, -8.0),
            ({"patchify": -5.0, "conv": -5.0}, 0.0),
            ({"patchify": 3.0, "conv": -3.0}, 10.0),
        )
    ):  # the recommended stem is the better one, neither is, the better one is recommended
        text = study_page(tmp_path / str(number), gains, conv=conv).recommendation.sentence()
        assert "stem outperforms the" not in text.partition(";")[2], text


def test_a_better_stem_with_diverged_runs_is_not_named(tmp_path: Path) -> None:
    def value(at: Mapping[str, str]) -> Any:
        arm = at["stem"], at["training"]
        gains = {("patchify", "TST"): -5.0, ("conv", "OST"): 8.0}
        diverged = arm == ("conv", "OST") and at["seed"] == "0"
        return {"status": "diverged"} if diverged else 80 + 0.3 * (int(at["seed"]) % 3) + gains.get(arm, 0.0)

    text = page_of(write_comparison(comparison_study(num_seeds=5), tmp_path, value)).recommendation.sentence()
    assert "stem outperforms the" not in text, text


@pytest.mark.parametrize("below", [0, 1, 3])
def test_pretrainings_that_did_not_improve_the_features_are_named_on_the_first_screen(
    tmp_path: Path, below: int
) -> None:
    def pretraining(levels: Mapping[str, str]) -> dict[str, Any]:
        end = 70.0 - int(levels["seed"]) if int(levels["seed"]) < below else 75.0
        return {"value": 20.0, "metrics": {"knn_top1": end, "knn_top1_untrained": 70.0}}

    page = study_page(tmp_path, {"patchify": 4.0, "conv": 4.0}, pretraining=pretraining)
    found = [
        each.split(" did not")[0] for each in page.advice() if "no better at their end than at their start" in each
    ]
    assert found == ([f"With the patchify stem, {below} of the 3 pretrain runs"] if below else [])


def test_collapsed_pretrainings_support_nothing(tmp_path: Path) -> None:
    page = study_page(
        tmp_path,
        {"patchify": 4.0, "conv": 4.0},
        pretraining=lambda levels: {"value": 20.0, "status": "collapsed_constant"},
    )
    assert page.findings.claims[0].outcome is Outcome.BETTER
    assert page.recommendation.sentence() == (
        "Not enough evidence yet: all 3 pretrain runs behind it collapsed, so that the comparison says little about others; make "
        "them stable first."
    )
    assert page.cards()[0].conclusion == "better" and page.cards()[0].note == "all 3 pretrain runs behind it collapsed"


def test_nothing_outperforms_with_two_seeds(tmp_path: Path) -> None:
    text = study_page(tmp_path, {"patchify": 9.0, "conv": 9.0}, study={"num_seeds": 2}).recommendation.sentence()
    assert text.startswith(
        "Not enough evidence yet: 2 seeds are too few, at least 3 are needed; add 1 more seed (14 runs"
    )


def test_level_with_fewer_stages_is_simpler(tmp_path: Path) -> None:
    page = study_page(tmp_path, {"patchify": 0.1, "conv": 0.1})
    assert page.findings.claims[0].outcome is Outcome.EQUIVALENT
    assert "use one-stage training (OST): two-stage training (TST) adds nothing (" in page.recommendation.sentence()
    assert page.recommendation.sentence().endswith("equivalent within 1 point) and needs another stage.")


def test_sentence_of_a_loss_has_its_unit_and_direction(tmp_path: Path) -> None:
    record = write_comparison(
        comparison_study(metric="test_loss", metric_name="test loss"),
        tmp_path,
        lambda at: {"metrics": {"test_loss": 1.0 + 0.01 * SCATTER[at["seed"]] - 0.3 * (at["training"] == "TST")}},
    )
    text = page_of(record).recommendation.sentence()
    assert "two-stage training (TST): it outperforms" in text and "by 0.300 in test loss (0.29" in text


def test_study_with_one_axis_and_one_amount(tmp_path: Path) -> None:
    study = {"compare": {"training": ["OST", "TST"]}, "stems": ("patchify",), "fractions": (1.0,)}
    page = study_page(tmp_path, {"patchify": 4.0}, study=study)
    assert page.recommendation.sentence().startswith(
        "Use two-stage training (TST): it outperforms one-stage training (OST) by 4.0 points ("
    )
    assert [card.title for card in page.cards()] == ["Is two-stage training (TST) worth it?"]


def test_with_a_third_axis_the_alternative_counts_as_with_two() -> None:
    """The sides of the alternative name no network, so that it was never found among the arms of the effect."""
    panel = {"stem": "patchify", "network": "small"}
    cells = ({**panel, "training": "OST"},)
    compare = {"training": ("OST", "TST"), "stem": ("patchify", "conv")}
    effect = Claim("effect", panel, cells, interval_of(2.0, Outcome.BETTER), 0.01, None, Outcome.BETTER)
    alternative = Claim("alternative", {}, cells, interval_of(5.0, Outcome.BETTER), 0.01, None, Outcome.BETTER)
    found = decide([effect, alternative], compare, None)
    assert (found.basis, found.use) == (Basis.ALTERNATIVE, {"stem": "conv", "training": "OST"})
    chain = decide([effect, replace(alternative, outcome=Outcome.WORSE)], compare, None)
    assert (chain.basis, chain.use) == (Basis.CHAIN, {**panel, "training": "TST"})


def test_arms_of_unlike_compute_are_not_said_to_have_one_budget(findings: Findings) -> None:
    """Budgets are those of each stem, and a conv stem's are larger."""
    found = with_outcomes(findings, outcomes(Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE, Outcome.BETTER))
    equal, unequal = (
        replace(found, claims=tuple(replace(claim, spending=ratio) for claim in found.claims))
        for ratio in (1.05, 2.847)
    )
    assert "each arm within the same budget of MACs." in recommend(equal).certainty()[0]
    assert (
        recommend(unequal)
        .certainty()[0]
        .endswith(
            "one-stage training (OST) and two-stage training (TST) within the same budget of MACs, but conv stem with one-stage"
            " training (OST) spends 2.8 times the MACs of patchify stem with two-stage training (TST)."
        )
    )
    assert "each arm within" in recommend(replace(unequal, has_one_budget=True)).certainty()[0]
    still_open = with_outcomes(findings, outcomes(*3 * [Outcome.INCONCLUSIVE]))
    still_open = replace(still_open, claims=tuple(replace(claim, spending=1.9) for claim in still_open.claims))
    assert "conv stem with one-stage training (OST) spends 1.9 times" in recommend(still_open).certainty()[0]
    words = ComparisonWords(unequal)
    assert words.claim(unequal.claims[-1]).endswith("significantly better, with 2.8 times the MACs.")
    assert "with 2.8 times the MACs" in words.claim(unequal.claims[0]), "lengths chosen within one budget differ, too"
    assert not any("MACs" in ComparisonWords(equal).claim(claim) for claim in equal.claims)


def test_an_average_over_settings_says_how_many_have_values_and_how_compute_differs(findings: Findings) -> None:
    effect = findings.effects[1]
    assert effect.settings_all > 2
    some = replace(findings, effects=(findings.main, replace(effect, settings_used=effect.settings_all - 1)))
    assert (
        f"averaged over {effect.settings_all - 1} of {effect.settings_all} settings"
        in ComparisonWords(some).second_effect()
    )
    costs = {
        frozenset({**setting.levels, effect.axis: level}.items()): {MACS: amount}
        for setting in effect.by_setting
        for level, amount in ((effect.base, 1e9), (effect.other, 2.1e9))
    }
    words = ComparisonWords(replace(findings, costs=costs))
    assert "averaged over all settings" in words.second_effect()
    assert words.second_effect().endswith(", with 2.1 times the MACs.")
    assert not ComparisonWords(findings).second_effect().endswith("MACs.")
