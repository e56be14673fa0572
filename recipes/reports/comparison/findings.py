"""Findings of a comparison: means, differences, interaction, label savings and the declared claims, each with its interval.

Terms: the main axis is the first one of `report.compare`, the second axis the next one; a panel is one combination of the levels
of all other axes except the x axis (`report.x`) and the repeats; an arm is a level of the main axis in a panel.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from recipes.reports.arm_costs import CellCosts, cell_costs
from recipes.reports.comparison.cell_values import StudyValues, read_values
from recipes.reports.comparison.claims import Claim, explore_savings, find_claims, preferred_panel
from recipes.reports.comparison.earlier_runs import EarlierRuns, find_earlier_runs
from recipes.reports.comparison.estimator import Effect, Estimate, Estimator, Levels
from recipes.reports.comparison.label_savings import Saving
from recipes.reports.comparison.starts import Starts, find_starts
from recipes.reports.metrics import Metric, find_metric
from recipes.reports.results import StudyRecord
from recipes.reports.run_files import read_num_classes
from recipes.reports.statistics import Interval, rate_interval
from recipes.study.choices import Choices
from recipes.study.report_specification import ReportSpec


@dataclass(frozen=True)
class Divergence:
    """The runs of an arm at one x that diverged, with Wilson's interval of the rate in percent."""

    levels: Levels
    diverged: int
    runs: int

    @property
    def interval(self) -> tuple[float, float]:
        """Return the interval of the rate in percent."""
        low, high = rate_interval(self.diverged, self.runs)
        return 100 * low, 100 * high


@dataclass(frozen=True)
class Findings:
    """Everything that a report states about a metric, as numbers."""

    spec: ReportSpec
    metric: Metric
    x: tuple[str, ...]
    panels: tuple[Levels, ...]
    arms: tuple[Estimate, ...]
    effects: tuple[Effect, ...]
    interaction: Interval | None
    """Of the main with the second axis: the main effect at the second axis's other level minus that at its base level."""
    savings: tuple[tuple[Levels, Saving | None], ...]
    """By panel, at `saving_x`; None where an arm is not measured."""
    saving_x: str
    explored: tuple[Claim, ...]
    """What the claim about the saving would be in the panels in which it is not declared."""
    claims: tuple[Claim, ...]
    costs: CellCosts
    """What a run of every cell costs."""
    divergences: tuple[Divergence, ...]
    labels: Mapping[str, int]
    """Number of labeled images (training, and validation images for choices) by level of the x axis."""
    values: StudyValues
    choices: Choices | None
    """The lengths and rates chosen on validation images; None: the recipes' own."""
    match: str
    """What the arms may spend alike: compute, steps or none."""
    has_one_budget: bool
    """Whether the study states one budget for all arms; otherwise each panel has its own."""
    missing: int
    """Number of runs of the last stage that are neither measured nor diverged."""
    without_metric: int
    """Number of those that are done and have no such metric: resuming the study does not run them again."""
    earlier: EarlierRuns
    starts: Starts | None
    """Further starts, such as public weights, and what they are compared with; None: the study declares none."""

    @property
    def main(self) -> Effect:
        """Return the effect of the main axis."""
        return self.effects[0]

    @property
    def arm_axes(self) -> list[str]:
        """Return the axes whose levels name an arm: those of the panels, and the main one."""
        return [*(self.panels[0] if self.panels else ()), self.main.axis]

    @property
    def num_exploratory(self) -> int:
        """Return the number of differences with an interval that no claim declares."""
        return sum(setting.interval.is_known for effect in self.effects for setting in effect.by_setting)

    def has_converged(self, levels: Levels) -> bool | None:
        """Return whether twice the epochs gain less than a validation point in a cell; None if that was not tried."""
        choice = self.choices.of(levels) if self.choices is not None else None
        return choice.converged if choice is not None else None

    def arm(self, panel: Levels, level: str) -> list[Estimate]:
        """Return the estimates of an arm by x: none without the arm in this panel, and no points where nothing is measured."""
        wanted = {**panel, self.main.axis: level}
        return [arm for arm in self.arms if all(arm.levels[axis] == name for axis, name in wanted.items())]


def compute_findings(study: StudyRecord) -> Findings:
    """Return the findings of a study from its completed runs."""
    spec = study.plan.study.report
    assert isinstance(spec, ReportSpec)
    spec = _of_labels(spec, study)
    metric = find_metric(spec.metric, higher_is_better=spec.higher_is_better, limits=spec.metric_range)
    axes = {axis.name: list(axis.levels) for axis in study.plan.study.axes if axis.name != spec.repeats}
    values = read_values(study, metric, spec.repeats, read_num_classes(study))
    estimator = Estimator(axes, spec, values, metric)
    with_chance = Estimator(axes, spec, values.with_chance(), metric)
    choices = study.plan.choices
    starts = find_starts(study, estimator, choices)
    main = next(iter(spec.compare))
    panel = preferred_panel(choices, estimator) if starts is None else starts.scratch_panel(main)
    panels = tuple(estimator.combinations(main, spec.x))
    arms = [{**panel, spec.x: x, main: name} for panel in panels for x in estimator.xs for name in axes[main]]
    labels = _labels(study, spec.x) if spec.counts_labels else {}
    costs = cell_costs(study, list(axes))
    saving_x = spec.saving_at if spec.saving_at is not None else estimator.xs[0]
    cells = [*estimator.combinations()]
    return Findings(
        spec=spec,
        metric=metric,
        x=estimator.xs,
        panels=panels,
        arms=tuple(estimator.mean(levels) for levels in arms if values.key(levels) in values.planned),
        effects=tuple(estimator.effect(axis, *pair) for axis, pair in spec.compare.items()),
        interaction=estimator.interaction(),
        savings=tuple((panel, estimator.saving(panel, saving_x, labels)) for panel in panels if spec.counts_labels),
        saving_x=saving_x,
        explored=explore_savings(estimator, with_chance, [each for each in panels if each != panel], saving_x),
        claims=find_claims(estimator, with_chance, panel, saving_x, starts, costs),
        costs=costs,
        divergences=tuple(_divergences(estimator, cells)),
        labels=labels,
        values=values,
        choices=choices,
        match=study.plan.study.match,
        has_one_budget=study.plan.study.budget_macs is not None,
        missing=sum(
            len(values.planned.get(values.key(levels), ()))
            - len(cell.seeds if (cell := values.cell(levels)) else ())
            - len(values.diverged.get(values.key(levels), ()))
            for levels in cells
        ),
        without_metric=sum(
            study.final_run(cell).is_usable
            and study.value(cell, metric.name) is None
            and cell.levels[spec.repeats] not in values.diverged.get(values.key(cell.levels), ())
            for cell in study.plan.cells
        ),
        earlier=find_earlier_runs(study, values, spec.repeats),
        starts=starts,
    )


def _divergences(estimator: Estimator, cells: Sequence[Levels]) -> Iterator[Divergence]:
    """Yield the rate of divergence of every cell in which a run diverged."""
    values = estimator.values
    for levels in cells:
        if diverged := values.diverged.get(values.key(levels), ()):
            cell = values.cell(levels)
            yield Divergence(levels, len(diverged), len(diverged) + (len(cell.seeds) if cell else 0))


def _of_labels(spec: ReportSpec, study: StudyRecord) -> ReportSpec:
    """Return the report's specification; if all levels of x have equally many training images, they are no amounts of labels.

    Fractions are, whatever they are rounded to.
    """
    if spec.is_fraction:
        return spec
    done = study.cells[study.cells["train_images"].notna()]
    counts = done.groupby(spec.x, sort=False)["train_images"].agg(["min", "max"])
    is_same = len(counts) > 1 and counts["min"].min() == counts["max"].max()
    return replace(spec, counts_labels=False, is_fraction=False) if is_same else spec


def _labels(study: StudyRecord, x_axis: str) -> dict[str, int]:
    """Return the number of labeled images by level of the x axis, if all of its runs agree; none if levels have the same.

    Validation images whose labels a choice may use count, too: the share of the validation part that belongs to the level.
    """
    done = study.cells[study.cells["train_images"].notna()]
    amounts = done["train_images"].astype(int)
    if study.plan.choices is not None and "validation_subset_images" in done:
        amounts = amounts + done["validation_subset_images"].fillna(0.0).round().astype(int)
    counts = {str(level): set(own) for level, own in amounts.groupby(done[x_axis], sort=False)}
    labels = {level: images.pop() for level, images in counts.items() if len(images) == 1}
    return labels if len(set(labels.values())) == len(labels) else {}
