"""Figures of a comparison; each function draws one and returns it, or None if its numbers are not available."""

import itertools
import math
from collections.abc import Iterator, Sequence

import pandas as pd

from common.figures import Axes, Figure
from recipes.reports.captions import COST_CAPTION, fill
from recipes.reports.comparison.captions import CAPTIONS
from recipes.reports.comparison.estimator import Effect, Estimate, Levels
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.label_savings import Saving
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.comparison.section_figures import section_figures
from recipes.reports.comparison.words import Words
from recipes.reports.comparison.x_axis import XAxis
from recipes.reports.figure_style import (
    FAINT,
    INK,
    MUTED,
    WIDTH,
    described_interval,
    draw_interval,
    draw_repeats,
    figure,
    is_narrow,
    label_y,
    legend_above,
    name_rows,
    row_figure,
)
from recipes.reports.figure_text import describe
from recipes.reports.results import StudyRecord
from recipes.reports.run_figures import LEARNING, draw_cost, draw_learning
from recipes.reports.run_files import read_curves
from recipes.reports.series import Series, assign_series
from recipes.study.report_specification import ReportSpec
from recipes.study.specification import Study

DIFFERENCE = Series(INK, "o", "-", "")
"""Look of differences, which belong to no arm."""


def comparison_figures(page: ComparisonPage) -> Iterator[tuple[str, Figure, str]]:
    """Yield (name, figure, caption) for every figure whose numbers are available."""
    findings, words, main = page.findings, page.words, page.findings.main
    looks = level_series(page.study.plan.study)
    arms = [", ".join(map(words.title, levels)) for levels in page.costs[findings.arm_axes].itertuples(index=False)]
    bars = [looks[level] for level in page.costs[main.axis]]
    figures: list[tuple[str, Figure | None, str]] = [
        (
            "accuracy",
            draw_curves(findings, words, looks),
            CAPTIONS["accuracy" if len(findings.x) > 1 else "accuracy_at_one"],
        ),
        ("differences", draw_differences(findings, words), CAPTIONS["differences"]),
        ("labels", draw_savings(findings, words, looks), CAPTIONS["labels"]),
        ("effects", draw_effects(findings, words, looks), CAPTIONS["effects"]),
        ("cost", draw_cost(page.costs, arms, bars), COST_CAPTION),
    ]
    for stage in page.study.plan.study.stages[:-1]:
        fig = draw_learning(learning_curves(page.study, stage.name), "group", looks, words.title)
        figures.append((f"learning_{stage.name}", fig, CAPTIONS["learning"].replace("{stage}", stage.name)))
    fields = {**vars(findings.spec), "base": main.base, "other": main.other, "covered": words.covered}
    for name, fig, caption in itertools.chain(figures, section_figures(page, looks)):
        if fig is not None:
            yield name, fig, fill(caption, **fields)


def level_series(study: Study) -> dict[str, Series]:
    """Return the look of every level of the compared axes, the same in all figures of a page."""
    assert isinstance(study.report, ReportSpec)
    return assign_series(name for axis in study.report.compare for name in _levels(study, axis))


def learning_curves(study: StudyRecord, stage: str) -> pd.DataFrame:
    """Return the training curves of a stage, with the levels of each run, without the repeats, in the column `group`."""
    repeats = study.plan.study.report.repeats
    runs = study.of_stage(stage)
    groups = {
        run.planned.id: ", ".join(level for axis, level in run.planned.levels.items() if axis != repeats) or stage
        for run in runs
    }
    curves = read_curves(runs, list(LEARNING))
    return curves.assign(group=curves["run"].map(groups))


def draw_curves(findings: Findings, words: Words, looks: dict[str, Series]) -> Figure | None:
    """Draw the metric over the x axis: one panel per combination, one line per level of the main axis."""
    if all(math.isnan(arm.interval.mean) for arm in findings.arms):
        return None
    main = findings.main.axis
    names = list(dict.fromkeys(arm.levels[main] for arm in findings.arms))
    with figure(WIDTH, 4.0, len(findings.panels)) as (fig, panels):
        for axes, panel in zip(panels, findings.panels, strict=True):
            for number, name in enumerate(names):
                shift = 0.03 * (number - (len(names) - 1) / 2)
                estimates = findings.arm(panel, name)
                _draw_line(axes, estimates, findings, shift, looks[name])
                where = ", ".join(filter(None, (words.panel(panel), words.title(name))))
                describe(fig, *_described(where, estimates, findings, words))
            _label_x_axis(axes, findings, words)
            axes.set_title(words.panel(panel))
        for name in names:
            look = looks[name]
            line = {"linestyle": look.line, "marker": look.marker, "markersize": 6.0}
            panels[0].plot([], [], color=look.color, label=words.title(name), **line)
        label_y(fig, panels, words.axis_title)
        legend_above(fig, panels[0])
    return fig


def draw_differences(findings: Findings, words: Words) -> Figure | None:
    """Draw the paired differences of the main axis: the repeats as points, their mean with its interval."""
    main = findings.main
    if all(math.isnan(estimate.interval.mean) for estimate in main.by_setting):
        return None
    scale = _x_axis(findings)
    with figure(WIDTH, 3.7, len(findings.panels)) as (fig, panels):
        for axes, panel in zip(panels, findings.panels, strict=True):
            axes.axhline(0, color=INK, linewidth=1.0)
            for estimate in _of_panel(main, panel):
                x = float(estimate.levels[findings.spec.x])
                draw_interval(axes, x, estimate.interval, DIFFERENCE)
                step = 0.05 if len(estimate.points) < 6 else 0.25 / len(estimate.points)
                middle = (len(estimate.points) - 1) / 2
                dodged = [scale.dodged(x, step * (number - middle)) for number in range(len(estimate.points))]
                draw_repeats(axes, dodged, list(estimate.points.values()), DIFFERENCE)
            describe(fig, *_described(words.panel(panel), _of_panel(main, panel), findings, words))
            _label_x_axis(axes, findings, words)
            axes.set_title(words.panel(panel))
        label_y(fig, panels, f"{main.other} − {main.base}, {_unit(words)}")
    return fig


def draw_savings(findings: Findings, words: Words, looks: dict[str, Series]) -> Figure | None:
    """Draw, for every panel, the labels with which the base arm matches the other arm, with its interval: a row per panel."""
    known = [(panel, saving) for panel, saving in findings.savings if saving is not None]
    if not known:
        return None
    main, ends = findings.main, known[0][1].measured
    with row_figure(len(known)) as (fig, (axes,)):
        axes.set_xscale("log")
        axes.set_xlim(ends[0] * 0.72, ends[1] * 1.4)
        for row, (panel, saving) in enumerate(known):
            _draw_saving(axes, row, saving, (looks[main.base], looks[main.other]))
            describe(fig, _described_saving(words.panel(panel), saving, (main.base, main.other)))
        axes.set_ylim(len(known) - 0.4, -1.0 if is_narrow() else -0.6)
        axes.set_xlabel(
            f"{main.base}: labels for the {words.spec.metric_name} of {main.other} with {words.labels(findings.saving_x)}"
        )
        amounts = [words.measured_amount(x) for x in findings.x]
        axes.set_xticks(amounts, [words.amount(amount).removesuffix(" labels") for amount in amounts])
        axes.minorticks_off()
        name_rows([axes], range(len(known)), [words.panel(panel) or main.other for panel, _ in known])
    return fig


def draw_effects(findings: Findings, words: Words, looks: dict[str, Series]) -> Figure | None:
    """Draw the compared effects one below the other: averaged, and at every x; by panel instead if they interact."""
    is_averaged = findings.interaction is None or not findings.interaction.sign
    rows = [
        (effect, estimate, _name_of_estimate(estimate, findings, words))
        for effect in findings.effects
        for estimate in ((effect.pooled, *effect.by_x) if is_averaged else effect.by_panel)
    ]
    if len(findings.effects) < 2 or all(math.isnan(estimate.interval.mean) for _, estimate, _ in rows):
        return None
    with row_figure(len(rows) + 0.5 * len(findings.effects)) as (fig, (axes,)):
        axes.axvline(0, color=INK, linewidth=1.0)
        height, heights, names = 0.0, [], []
        shown = ""
        for effect, estimate, label in rows:
            height += 1.5 if effect.axis != shown and height else 1.0
            is_named = effect.axis != shown or not is_averaged or is_narrow()
            heights.append(height)
            names.append(f"{effect.other} − {effect.base}, {label}" if is_named else label)
            shown = effect.axis
            size = 8.0 if not estimate.levels else 5.5
            draw_interval(axes, height, estimate.interval, looks[effect.other], horizontal=True, marker_size=size)
            describe(fig, described_interval(f"{effect.other} − {effect.base}, {label}", estimate.interval))
        axes.set_ylim(height + 0.7, 0.0 if is_narrow() else 0.3)
        axes.set_xlabel(f"points of {words.spec.metric_name}" if words.metric.in_percent else words.spec.metric_name)
        name_rows([axes], heights, names)
    return fig


def _described_saving(panel: str, saving: Saving, names: tuple[str, str]) -> str:
    """Return a label saving as a description."""
    base, other = names
    amount = f"{saving.equal:,.0f} labels" if math.isfinite(saving.equal) else "an amount outside of the measured range"
    return f"{f'{panel}: ' if panel else ''}{other} with {saving.labels:,} labels matches {base} with {amount}"


def _described(name: str, estimates: Sequence[Estimate], findings: Findings, words: Words) -> Iterator[str]:
    """Yield the mean of every estimate with its interval as a description."""
    for estimate in estimates:
        amount = words.format_x(float(estimate.levels[findings.spec.x]))
        place = ", ".join(filter(None, (name, amount)))
        yield described_interval(place, estimate.interval, findings.metric.digits)


def _draw_line(axes: Axes, estimates: Sequence[Estimate], findings: Findings, shift: float, look: Series) -> None:
    """Draw one arm: a line through the means, each with its interval, and the repeats as faint points."""
    measured = [estimate for estimate in estimates if estimate.points]
    scale = _x_axis(findings)
    positions = [scale.dodged(float(estimate.levels[findings.spec.x]), shift) for estimate in measured]
    means = [estimate.interval.mean for estimate in measured]
    axes.plot(positions, means, color=look.color, linestyle=look.line, zorder=3)
    for x, estimate in zip(positions, measured, strict=True):
        draw_interval(axes, x, estimate.interval, look)
        values = list(estimate.points.values())
        draw_repeats(axes, [x] * len(values), values, look)


def _draw_saving(axes: Axes, row: int, saving: Saving, looks: tuple[Series, Series]) -> None:
    """Draw one row: a line from the labels of one arm to those the other needs; triangles mark values out of the measured range."""
    measured, (base, other) = saving.measured, looks
    first, last = measured[0] * 0.8, measured[1] * 1.25
    axes.plot(measured, [row, row], color=FAINT, linewidth=0.8, zorder=1)
    if not math.isnan(saving.low):
        low, high = (min(max(end, first), last) for end in (saving.low, saving.high))
        axes.plot([low, high], [row, row], color=base.color, alpha=0.22, linewidth=9, solid_capstyle="butt", zorder=2)
    axes.plot(saving.labels, row, other.marker, color=other.color, markersize=6.5, zorder=4)
    target = min(max(saving.equal, first), last)
    axes.plot([saving.labels, target], [row, row], color=base.color, linestyle=base.line, linewidth=1.6, zorder=3)
    marker = base.marker if math.isfinite(saving.equal) else ">" if saving.equal > 0 else "<"
    axes.plot(target, row, marker, color=base.color, markersize=7.0, zorder=5)


def _label_x_axis(axes: Axes, findings: Findings, words: Words) -> None:
    """Label the x axis at the measured levels, with the number of images at each."""
    labels = [words.format_x(float(x)) for x in findings.x]
    if findings.labels:
        labels = [f"{label}\n{findings.labels[x]:,}" if x in findings.labels else label
                  for label, x in zip(labels, findings.x, strict=True)]  # fmt: skip
    _x_axis(findings).apply(axes, labels)
    below = " (labels below)" if findings.labels else ""
    axes.set_xlabel(f"{words.spec.x_name}{below}", color=MUTED)


def _x_axis(findings: Findings) -> XAxis:
    """Return the positions of the levels of x."""
    return XAxis([float(x) for x in findings.x])


def _name_of_estimate(estimate: Estimate, findings: Findings, words: Words) -> str:
    """Return what an estimate of an effect is averaged over or restricted to."""
    if list(estimate.levels) == [findings.spec.x]:
        return words.format_x(float(estimate.levels[findings.spec.x]))
    return words.panel(estimate.levels) or "average"


def _unit(words: Words) -> str:
    """Return the unit of a difference on an axis."""
    return "points" if words.metric.in_percent else words.spec.metric_name


def _of_panel(effect: Effect, panel: Levels) -> list[Estimate]:
    """Return the differences that belong to a panel."""
    return [
        estimate
        for estimate in effect.by_setting
        if all(estimate.levels[axis] == level for axis, level in panel.items())
    ]


def _levels(study: Study, axis: str) -> list[str]:
    """Return the levels of the axis named `axis`."""
    return next(list(candidate.levels) for candidate in study.axes if candidate.name == axis)
