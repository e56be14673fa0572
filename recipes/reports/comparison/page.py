"""Page of a comparison: recommendation, answers and notes around its tables and figures."""

import math

from recipes.reports.arm_costs import arm_costs
from recipes.reports.captions import fill
from recipes.reports.comparison.captions import NOTES
from recipes.reports.comparison.claims import Claim, Outcome
from recipes.reports.comparison.estimator import Levels
from recipes.reports.comparison.findings import Findings, compute_findings
from recipes.reports.comparison.open_claims import SeedCost
from recipes.reports.comparison.recommendation import EQUAL_COST, Recommendation, Simpler
from recipes.reports.comparison.saving_words import ComparisonWords
from recipes.reports.comparison.sections import Sections
from recipes.reports.comparison.setup_tables import SetupTables
from recipes.reports.comparison.start_recommendation import StartRecommendation
from recipes.reports.comparison.start_words import STARTS
from recipes.reports.comparison.tables import NOT_CONVERGED
from recipes.reports.formatting import p_text, signed_distinctly
from recipes.reports.page import Card, Page
from recipes.reports.results import StudyRecord
from recipes.reports.statistics import chance_of_false_mark
from recipes.run.runner import pluralize

TONES = {Outcome.BETTER: "up", Outcome.WORSE: "down"}
"""Tone of a claim's answer by its outcome."""
ANSWERS = {Outcome.BETTER: "yes", Outcome.WORSE: "no"}
"""Answer to the question of a claim by its outcome."""


class ComparisonPage(Page):
    """Content of the report of a study that compares levels of its axes."""

    template = "comparison"

    def __init__(self, study: StudyRecord) -> None:
        """Compute everything from the record of a study's folder."""
        self.findings: Findings = compute_findings(study)
        self.words = ComparisonWords(self.findings)
        self.tables = SetupTables(study, self.findings, self.words)
        self.sections = Sections(study, self.findings, self.words, self.tables)
        super().__init__(study, arm_costs(study, self.findings.arm_axes))
        self.recommendation = self._recommend()

    def advice(self) -> list[str]:
        """Return the recommendation, how sure it is, and what speaks against it: a failed pre-training, a baseline as good.

        Where a baseline is above the best arm's interval at every amount of labels, that comes first: the arms have learned too
        little.
        """
        outdone, recommendation = self.tables.outdone(), self.recommendation.sentence()
        effect = next(claim for claim in self.findings.claims if claim.name == "effect")
        sentences = [
            *(
                [outdone, f"Among the arms: {recommendation[:1].lower()}{recommendation[1:]}"]
                if outdone
                else [recommendation]
            ),
            *self.recommendation.certainty(),
            self.words.not_improved(effect),
            self.tables.sufficient_baseline(),
            self.tables.below_own_start(),
        ]
        return [sentence for sentence in sentences if sentence]

    def answer(self) -> list[str]:
        """Return the sentences that answer the question: the declared claims, then what is exploratory, then what is open."""
        words, findings = self.words, self.findings
        claims = {claim.name: claim for claim in findings.claims}
        sentences = [
            *(words.claim(claims[name]) for name in STARTS if name in claims),
            words.reason_of_scratch(),
            words.claim(claims["effect"]),
            words.doubt(claims["effect"]),
            words.reason_of_panel(),
            words.interaction(),
            *(words.saving(panel, saving) for panel, saving in findings.savings if panel == claims["effect"].levels),
            words.claim(claims["alternative"]) if "alternative" in claims else "",
            words.second_axis(),
            words.second_effect(),
            words.exploratory(),
            *words.divergences(),
            self.tables.best_baseline(),
            *words.next_steps(),
            words.matching(),
            words.uncounted(),
            words.coverage(),
            words.shared_runs(),
        ]
        return [sentence for sentence in sentences if sentence]

    def cards(self) -> list[Card]:
        """Return the answers of the first screen: the declared claims, those on further starts first."""
        claims = sorted(self.findings.claims, key=lambda claim: claim.name not in STARTS)
        return [self._saving_card(claim) if claim.name == "saving" else self._card(claim) for claim in claims]

    def skipped(self) -> list[str]:
        """Return what the study lacks, and why."""
        return list(self.findings.spec.skipped)

    def _recommend(self) -> Recommendation:
        """Return the recommendation: of a start where the study has further ones."""
        seed, simpler = self._seed_cost(), self._simpler()
        if self.findings.starts is None:
            return Recommendation(self.words, seed, simpler)
        rows = self.costs.to_dict("records") if len(self.costs) else []

        def seconds(arm: Levels) -> float | None:
            found = [row for row in rows if all(row[axis] == level for axis, level in arm.items())]
            return float(found[0]["standalone_seconds"]) if found else None

        return StartRecommendation(self.words, seed, simpler, seconds)

    def _seed_cost(self) -> SeedCost:
        """Return what one more seed costs, from the runs there are."""
        runs, repeats = self.study.frame, self.findings.spec.repeats
        seeds = runs[repeats].nunique()
        own = runs[runs[repeats].notna()]
        return SeedCost(round(len(own) / seeds), float(own["seconds"].mean()) * len(own) / seeds)

    def _simpler(self) -> Simpler | None:
        """Return the level of the main axis with fewer stages, otherwise the cheaper one; None if neither is."""
        main, earlier, axes = self.findings.main, self.findings.earlier, self.findings.values.axes
        stages = dict.fromkeys((main.base, main.other), 0)
        for key, runs in earlier.by_cell.items():
            level = key[axes.index(main.axis)]
            if level in stages:
                own = max(map(len, runs.values()), default=0) + (key in earlier.published)
                stages[level] = max(stages[level], own)
        seconds = self.costs.groupby(main.axis)["total_seconds"].mean() if len(self.costs) else {}
        fewest, most = sorted(stages, key=lambda level: stages[level])
        if stages[fewest] < stages[most]:
            return Simpler(fewest, "needs another stage")
        if not all(seconds.get(level, 0.0) > 0 for level in stages):
            return None
        cheap, costly = sorted(stages, key=lambda level: float(seconds[level]))
        ratio = float(seconds[costly] / seconds[cheap])
        return Simpler(cheap, f"takes {ratio:.1f} times as long") if ratio > EQUAL_COST else None

    def notes(self) -> list[str]:
        """Return how to read the numbers: the notes of the study, then those of every comparison."""
        spec = self.findings.spec
        repeats = next(axis for axis in self.study.plan.study.axes if axis.name == spec.repeats)
        keys = sorted({key for level in repeats.levels.values() for key in level})
        words = {"repeats": spec.repeats, "metric_name": spec.metric_name, "base": self.findings.main.base}
        numbers = {
            "count": pluralize(len(repeats.levels), spec.repeats),
            "exploratory": self.findings.num_exploratory,
            "false_mark": 100 * chance_of_false_mark(self.findings.num_exploratory),
        }
        fixed = [fill(note, keys=" and ".join(keys), **words, **numbers) for note in self._fixed_notes()]
        return [*spec.notes, *self.chance_level(), *self._metric(), *self._convergence(), *fixed]

    def _fixed_notes(self) -> list[str]:
        """Return the notes of every comparison that apply to this one."""
        has_images = not self.findings.values.problems
        names = ["images" if has_images else "repeats", "significant"]
        names += ["labels"] if self.findings.choices is not None else []
        names += ["equivalent"] if self.findings.metric.margin is not None else []
        names += ["claims"] + ["exploratory"] * (self.findings.num_exploratory > 1)
        names += ["saving"] * self.findings.spec.counts_labels
        return [NOTES[name] for name in (*names, "diverged")]

    def _metric(self) -> list[str]:
        """Return how the report takes a metric that is not an accuracy in percent."""
        metric, name = self.findings.metric, self.findings.spec.metric_name
        if metric.in_percent and metric.higher_is_better:
            return []
        direction = f"{'Higher' if metric.higher_is_better else 'Lower'} values of {name} count as better"
        if metric.range is not None:
            return [f"{direction}."]
        return [f"{direction}; its range is not known (`report.metric_range`), so that equivalence is not tested."]

    def _convergence(self) -> list[str]:
        """Return what the mark of arms that have not converged means, if there is one."""
        if not any(self.findings.has_converged(arm.levels) is False for arm in self.findings.arms):
            return []
        return [
            f"{NOT_CONVERGED} Not converged: a run of twice the epochs gains a point or more on the validation images."
        ]

    def measured_axes(self) -> list[str]:
        """Return the axes by which the table of all metrics is grouped: those of the arms, then the x axis."""
        return [*self.findings.arm_axes, self.findings.spec.x]

    def _card(self, claim: Claim) -> Card:
        """Return the answer of a claim of a difference."""
        findings, words, found = self.findings, self.words, claim.interval
        title = f"Is {words.title(findings.main.other)} worth it {words.with_panel(claim.levels)}".rstrip(" ,") + "?"
        if claim.name == "alternative":
            second = findings.effects[1]
            first, other = f"{second.other} with {findings.main.base}", f"{second.base} with {findings.main.other}"
            title = f"Is {first} better than {other}?"
        if claim.name in STARTS:
            base, other = words.sides(claim)
            title = f"Is {other} better than {base}?"
        unit = f" {words.unit(found.mean)}" if words.metric.in_percent else ""
        number = "" if math.isnan(found.mean) else f"{signed_distinctly(found.mean, words.metric.digits)}{unit}"
        note = self.recommendation.note(claim)
        is_doubtful = bool(words.doubt(claim))
        conclusion = claim.outcome.value if is_doubtful else ANSWERS.get(claim.outcome, claim.outcome.value)
        bounds = words.confidence(found) if number else ""
        if found.sign and claim.outcome is Outcome.INCONCLUSIVE and not math.isnan(claim.p_value):
            bounds += f"; {p_text(claim.p_value)} adjusted for {pluralize(len(findings.claims), 'claim')}"
        return Card(title, number, bounds, conclusion, self._tone(claim), note)

    def _tone(self, claim: Claim) -> str:
        """Return the tone of a claim: none while results are missing, or if an earlier run behind it collapsed."""
        doubtful = self.findings.missing or self.words.doubt(claim)
        return "" if doubtful else TONES.get(claim.outcome, "")

    def _saving_card(self, claim: Claim) -> Card:
        """Return the answer of the label saving."""
        findings, words = self.findings, self.words
        title = f"How many labels does it save with {words.labels(findings.saving_x)}?"
        saving = next((saving for panel, saving in findings.savings if panel == claim.levels), None)
        if saving is None:
            return Card(title, "", "", "not measured", "", self.recommendation.note(claim))
        interval = "" if math.isnan(saving.low) else f"95% CI {words.saving_bounds(saving)}"
        is_stated = saving.is_bounded and saving.sign and claim.outcome in TONES
        number = f"as good as {findings.main.base} with {words.short_saving(saving)}" if is_stated else ""
        conclusion = words.saving_conclusion(claim.levels, saving)
        return Card(title, number, interval, conclusion, self._tone(claim), self.recommendation.note(claim))
