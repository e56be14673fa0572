"""Owns the figures of a comparison; each function draws one and returns it, or None where its numbers are not there."""

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recipes.reports.captions import CAPTIONS, fill
from recipes.reports.comparison_page import ComparisonPage
from recipes.reports.figure_style import FAINT, INK, MUTED, SERIES, WIDTH, draw_interval, figure, legend_above
from recipes.reports.figures_runs import draw_cost, draw_learning
from recipes.reports.findings import Effect, Estimate, Findings, Levels
from recipes.reports.sentences import Words
from recipes.reports.statistics import Saving
from recipes.study.specification import Reading, Study


def comparison_figures(page: ComparisonPage) -> Iterator[tuple[str, Figure, str]]:
    """Yield (name, figure, caption) of every figure there are numbers for."""
    findings, words, main = page.findings, page.words, page.findings.main
    colours = level_colours(page.study.plan.study)
    arms = [", ".join(map(words.title, cost.levels.values())) for cost in page.costs]
    shades = [colours[cost.levels[main.axis]] for cost in page.costs]
    drawn: list[tuple[str, Figure | None, str]] = [
        ("accuracy", draw_curves(findings, words, colours), CAPTIONS["accuracy"]),
        ("differences", draw_differences(findings, words, colours), CAPTIONS["differences"]),
        ("labels", draw_savings(findings, words, colours), CAPTIONS["labels"]),
        ("effects", draw_effects(findings, words, colours), CAPTIONS["effects"]),
        ("cost", draw_cost(page.costs, arms, shades), CAPTIONS["cost"]),
    ]
    for stage in page.study.plan.study.stages[:-1]:
        drawing = draw_learning(page.study, stage.name, words, colours)
        drawn.append((f"learning_{stage.name}", drawing, CAPTIONS["learning"].replace("{stage}", stage.name)))
    known = {**vars(findings.reading), "base": main.base, "other": main.other}
    for name, drawing, caption in drawn:
        if drawing is not None:
            yield name, drawing, fill(caption, **known)


def level_colours(study: Study) -> dict[str, str]:
    """Return a colour for every level of the compared axes."""
    assert isinstance(study.reading, Reading)
    levels = [name for axis in study.reading.compare for name in _levels(study, axis)]
    return {name: SERIES[number % len(SERIES)] for number, name in enumerate(dict.fromkeys(levels))}


def draw_curves(findings: Findings, words: Words, colours: dict[str, str]) -> Figure | None:
    """Draw the metric over the curve's axis: a panel for each combination, a line for each level of the main axis."""
    if all(math.isnan(arm.interval.mean) for arm in findings.arms):
        return None
    main = findings.main.axis
    names = list(dict.fromkeys(arm.levels[main] for arm in findings.arms))
    with figure(WIDTH, 4.0, len(findings.panels)) as (drawing, panels):
        for axes, panel in zip(panels, findings.panels, strict=True):
            for number, name in enumerate(names):
                shift = 1 + 0.03 * (number - (len(names) - 1) / 2)
                _draw_line(axes, findings.arm(panel, name), findings, shift, colours[name], words.title(name))
            _label_over(axes, findings, words)
            axes.set_title(words.panel(panel))
        low, high = panels[0].get_ylim()
        if high <= 120:  # per cent: an interval may leave 0 to 100, the axis does not
            panels[0].set_ylim(max(low, 0), min(high, 100.5))
        panels[0].set_ylabel(words.reading.metric_name)
        legend_above(drawing, panels[0])
    return drawing


def draw_differences(findings: Findings, words: Words, colours: dict[str, str]) -> Figure | None:
    """Draw the paired differences of the main axis: the seeds as points, their mean with its interval."""
    main = findings.main
    if all(not one.points for one in main.one_by_one):
        return None
    with figure(WIDTH, 3.7, len(findings.panels)) as (drawing, panels):
        for axes, panel in zip(panels, findings.panels, strict=True):
            axes.axhline(0, color=INK, linewidth=1.0)
            for one in _of_panel(main, panel):
                x = float(one.levels[findings.reading.over])
                colour = colours[main.other if one.interval.mean > 0 else main.base]
                draw_interval(axes, x, one.interval, colour)
                for number, value in enumerate(one.points.values()):
                    side = x * (1 + 0.05 * (number - (len(one.points) - 1) / 2))
                    axes.plot(side, value, "o", color=colour, alpha=0.45, markersize=4.0, markeredgewidth=0)
            _label_over(axes, findings, words)
            axes.set_title(words.panel(panel))
        panels[0].set_ylabel(f"{main.other} − {main.base}, points")
    return drawing


def draw_savings(findings: Findings, words: Words, colours: dict[str, str]) -> Figure | None:
    """Draw for every share of labels of the one arm the share at which the other is as good, with its interval."""
    if not any(savings for _, savings in findings.savings):
        return None
    main, over = findings.main, [float(x) for x in findings.over]
    with figure(WIDTH, 1.5 + 0.42 * len(over), len(findings.panels)) as (drawing, panels):
        for axes, (panel, savings) in zip(panels, findings.savings, strict=True):
            axes.set_xscale("log")
            axes.set_xlim(over[0] * 0.72, over[-1] * 1.4)
            for row, saving in enumerate(savings):
                _draw_saving(axes, row, saving, (over[0], over[-1]), (colours[main.base], colours[main.other]), main)
            axes.set_yticks(range(len(savings)), [f"{main.other} {words.over(s.fraction)}" for s in savings])
            axes.set_ylim(len(savings) - 0.4, -0.6)
            _label_over(axes, findings, words, counts=False)
            axes.set_xlabel(f"{main.base}: {words.reading.over_name} for the same {words.reading.metric_name}")
            axes.set_title(words.panel(panel))
            axes.grid(visible=False, axis="y")
    return drawing


def draw_effects(findings: Findings, words: Words, colours: dict[str, str]) -> Figure | None:
    """Draw the compared effects one below the other: averaged, and at every point of the curve's axis."""
    rows = [
        (effect, one, words.over(float(one.levels[findings.reading.over])) if one.levels else "average")
        for effect in findings.effects
        for one in (effect.pooled, *effect.by_over)
    ]
    if len(findings.effects) < 2 or all(not one.points for _, one, _ in rows):
        return None
    with figure(WIDTH, 0.9 + 0.27 * len(rows), 1) as (drawing, (axes,)):
        axes.axvline(0, color=INK, linewidth=1.0)
        height, ticks = 0.0, []
        for effect, one, label in rows:
            height += 1.5 if not one.levels and height else 1.0
            colour = colours[effect.other]
            name = f"{effect.other} − {effect.base}, {label}" if not one.levels else label
            ticks.append((height, name))
            size = 8.0 if not one.levels else 5.5
            draw_interval(axes, height, one.interval, colour, horizontal=True, marker_size=size)
        axes.set_yticks([height for height, _ in ticks], [name for _, name in ticks])
        axes.set_ylim(height + 0.7, 0.3)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"points of {words.reading.metric_name}")
    return drawing


def _draw_line(
    axes: Axes, estimates: Sequence[Estimate], findings: Findings, shift: float, colour: str, label: str
) -> None:
    """Draw one arm: the means joined, each with its interval, and the seeds as faint points."""
    measured = [one for one in estimates if one.points]
    positions = [float(one.levels[findings.reading.over]) * shift for one in measured]
    axes.plot(positions, [one.interval.mean for one in measured], color=colour, label=label, zorder=3)
    for x, one in zip(positions, measured, strict=True):
        draw_interval(axes, x, one.interval, colour)
        axes.plot(
            [x] * len(one.points), list(one.points.values()), "o", color=colour, alpha=0.35, markersize=3.2, mew=0
        )


def _draw_saving(
    axes: Axes, row: int, saving: Saving, measured: tuple[float, float], colours: tuple[str, str], main: Effect
) -> None:
    """Draw one row: from the labels of the one arm to those the other needs; arrows leave the measured range."""
    first, last = measured[0] * 0.8, measured[1] * 1.25
    axes.plot(measured, [row, row], color=FAINT, linewidth=0.8, zorder=1)
    if not math.isnan(saving.low):
        low, high = (min(max(end, first), last) for end in (saving.low, saving.high))
        axes.plot([low, high], [row, row], color=colours[0], alpha=0.22, linewidth=9, solid_capstyle="butt", zorder=2)
    axes.plot(saving.fraction, row, "o", color=colours[1], markersize=6.5, zorder=4)
    target = min(max(saving.equal, first), last)
    axes.plot([saving.fraction, target], [row, row], color=colours[0], linewidth=1.6, zorder=3)
    marker = "o" if math.isfinite(saving.equal) else ">" if saving.equal > 0 else "<"
    axes.plot(target, row, marker, color=colours[0], markersize=7.0, zorder=5)


def _label_over(axes: Axes, findings: Findings, words: Words, counts: bool = True) -> None:
    """Label the curve's axis at the levels measured, with the images they stand for."""
    axes.set_xscale("log")
    if counts:
        axes.set_xlim(float(findings.over[0]) * 0.86, float(findings.over[-1]) * 1.16)
    named = [words.over(float(x)) for x in findings.over]
    if counts and findings.labels:
        named = [f"{name}\n{findings.labels[x]:,}" if x in findings.labels else name
                 for name, x in zip(named, findings.over, strict=True)]  # fmt: skip
    axes.set_xticks([float(x) for x in findings.over], named)
    axes.minorticks_off()
    if counts:
        below = " (images below)" if findings.labels else ""
        axes.set_xlabel(f"{words.reading.over_name}{below}", color=MUTED)


def _of_panel(effect: Effect, panel: Levels) -> list[Estimate]:
    """Return the differences that belong to a panel."""
    return [one for one in effect.one_by_one if all(one.levels[axis] == name for axis, name in panel.items())]


def _levels(study: Study, axis: str) -> list[str]:
    """Return the levels of an axis by its name."""
    return next(list(one.levels) for one in study.axes if one.name == axis)
