"""Figures of the sections after the first screen (`sections`), each with its caption."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from common.figures import Figure
from recipes.reports.arm_costs import HOURS, MACS
from recipes.reports.comparison.class_figures import draw_confusion
from recipes.reports.comparison.class_words import figure_name, pair_titles
from recipes.reports.comparison.compute_figures import MOST_PANELS, draw_cells_over_compute, draw_curves_over_compute
from recipes.reports.comparison.curve_figures import MOST_COLUMNS, MOST_ROWS, draw_stage_curves
from recipes.reports.comparison.findings import Findings
from recipes.reports.comparison.section_captions import CAPTIONS
from recipes.reports.comparison.stage_curves import LOSS
from recipes.reports.formatting import listed
from recipes.reports.metrics import validation_metric
from recipes.reports.series import Series

if TYPE_CHECKING:
    from recipes.reports.comparison.page import ComparisonPage


Drawn = tuple[str, Figure | None, str]
"""Name, figure, and caption with placeholders; the figure is None where its numbers are not available."""


def section_figures(page: "ComparisonPage", looks: Mapping[str, Series]) -> Iterator[Drawn]:
    """Yield the figures of all sections."""
    findings = page.findings
    series = {name: looks[name] for name in dict.fromkeys(arm.levels[findings.main.axis] for arm in findings.arms)}
    yield from _compute(page, series)
    yield from _curves(page, series)
    for pair in page.sections.pairs:
        titles = pair_titles(pair, page.words)
        caption = CAPTIONS["confusion"].replace("{where}", page.words.labels(pair.x))
        yield figure_name(pair), draw_confusion(pair, titles), caption


def _compute(page: "ComparisonPage", series: Mapping[str, Series]) -> Iterator[Drawn]:
    """Yield the figures of the metric over compute."""
    findings, words, sections = page.findings, page.words, page.sections
    for name, column in (("macs", MACS), ("hours", HOURS)):
        fig = draw_cells_over_compute(findings, words, sections.costs, series, column)
        yield f"compute_{name}", fig, CAPTIONS[f"compute_{name}"] + _left_out(findings, MOST_PANELS)
    metric = validation_metric(findings.spec.metric)
    curves = sections.curves_over_macs
    label = f"{words.spec.metric_name}, validation"
    fig = draw_curves_over_compute(curves[curves["name"] == metric], findings, words, series, label)
    yield "compute_curves", fig, CAPTIONS["compute_curves"] + _left_out(findings, MOST_ROWS, MOST_COLUMNS)


def _curves(page: "ComparisonPage", series: Mapping[str, Series]) -> Iterator[Drawn]:
    """Yield the training curves of the last stage."""
    findings, words, curves = page.findings, page.words, page.sections.curves
    metric = validation_metric(findings.spec.metric)
    caption = CAPTIONS["curves"].replace("{stage}", page.study.last_stage)
    caption += _left_out(findings, MOST_ROWS, MOST_COLUMNS)
    for name, title in {LOSS: "training loss", metric: f"{words.spec.metric_name}, validation"}.items():
        fig = draw_stage_curves(
            curves[curves["name"] == name],
            findings,
            words,
            series,
            position="step",
            labels=("optimizer step of the stage", title),
        )
        yield (
            f"curves_{'loss' if name == LOSS else 'validation'}",
            fig,
            caption.replace("{title}", title.replace("{", "{{").replace("}", "}}")),
        )


def _left_out(findings: Findings, most_panels: int, most_x: int | None = None) -> str:
    """Return the end of a caption: how many panels, and levels of x, a figure shows of more."""
    parts = [f"{most_panels} of {len(findings.panels)} panels"] if len(findings.panels) > most_panels else []
    if most_x is not None and len(findings.x) > most_x:
        parts.append(f"{most_x} of {len(findings.x)} levels of {{x_name}}")
    return f" Shown are {listed(parts)}." if parts else ""
