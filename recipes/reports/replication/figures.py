"""Figures of a report compared with a published table: that of its kind, the training curves, and the cost."""

from collections.abc import Iterator, Sequence

import pandas as pd

from common.figures import Figure
from recipes.reports.captions import COST_CAPTION, fill
from recipes.reports.replication.captions import CAPTIONS
from recipes.reports.replication.figure_distribution import draw_distribution
from recipes.reports.replication.figure_gap import draw_gap
from recipes.reports.replication.figure_lines import draw_curve, draw_layers
from recipes.reports.replication.figure_rows import draw_rows, row_colors
from recipes.reports.replication.page import TablePage
from recipes.reports.run_figures import draw_cost, draw_small_multiples
from recipes.reports.run_files import read_curves
from recipes.result import DIVERGED

MAX_PANELS = 32
"""Most small panels or bars of a figure of the runs; with more, the figure is not drawn because it would be illegible."""
STAGE_METRICS = {"loss": "training loss", "knn_top1": "k-NN top-1, %", "teacher_entropy": "teacher entropy, nats"}
"""Metrics drawn for every stage whose metrics.jsonl has them, in addition to the metrics of the table."""


def table_figures(page: TablePage) -> Iterator[tuple[str, Figure, str]]:
    """Yield (name, figure, caption) for every figure whose numbers are available."""
    findings, words = page.findings, page.words
    figures = [*_main_figures(page), *_learning(page)]
    if len(page.costs) <= MAX_PANELS:
        axes = page.measured_axes()
        names = [", ".join(page.tables.titles(cost, axes)) for cost in page.costs.to_dict("records")]
        colors = row_colors(findings)
        shades = colors if len(colors) == len(names) else colors[:1] * len(names)
        figures.append(("cost", draw_cost(page.costs, names, shades), COST_CAPTION))
    fields = {
        "metric": words.metric(findings.main),
        "repeats": findings.spec.repeats,
        "x": words.title(findings.spec.figure.x or ""),
    }
    for name, fig, caption in figures:
        if fig is not None:
            yield name, fig, fill(caption, **fields)


def _main_figures(page: TablePage) -> Iterator[tuple[str, Figure | None, str]]:
    """Yield the figure of the kind in the report spec; for rows, one per metric."""
    findings, words, kind = page.findings, page.words, page.findings.spec.figure.kind
    caption = CAPTIONS[kind]
    if kind == "rows":
        for column in findings.spec.metrics:
            metric = words.metric(column).replace("{", "{{").replace("}", "}}")
            yield f"table_{column}", draw_rows(findings, words, column), caption.replace("{metric}", metric)
        return
    draw = {"curve": draw_curve, "gap": draw_gap, "layers": draw_layers, "distribution": draw_distribution}[kind]
    yield f"table_{kind}", draw(findings, words), caption


def _learning(page: TablePage) -> Iterator[tuple[str, Figure | None, str]]:
    """Yield the training curves of every stage: the metrics of the table, loss, k-NN, teacher entropy."""
    wanted = {
        metric.partition("@")[0]: page.words.title(column) for column, metric in page.findings.spec.metrics.items()
    }
    wanted |= {
        name.replace("test_", "validation_"): f"{title}, validation"
        for name, title in wanted.items()
        if "test_" in name
    }
    for number, stage in enumerate(reversed(page.study.plan.study.stages)):
        measures = wanted | STAGE_METRICS if not number else STAGE_METRICS
        curves = _curves(page, stage.name, list(measures))
        if not 0 < curves["row"].nunique() <= MAX_PANELS:
            continue
        for metric, title in measures.items():
            kind = "curves" if not number else "learning"
            caption = CAPTIONS["curves"].replace("{stage}", stage.name).replace("{measure}", title)
            yield (
                f"{kind}_{stage.name}_{metric}",
                draw_small_multiples(curves[curves["name"] == metric], "row", title),
                caption,
            )


def _curves(page: TablePage, stage: str, names: Sequence[str]) -> pd.DataFrame:
    """Return the training curves of a stage, with the columns `row` (levels without repeats and draws) and `crashed`."""
    runs, rows = page.study.of_stage(stage), {}
    for run in runs:
        axes = [axis for axis in page.measured_axes() if axis in run.planned.levels]
        rows[run.planned.id] = ", ".join(page.tables.titles(run.planned.levels, axes)) or stage
    crashed = page.study.frame["status"] == DIVERGED
    curves = read_curves(runs, names)
    return curves.assign(row=curves["run"].map(rows), crashed=curves["run"].map(crashed))
