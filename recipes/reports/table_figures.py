"""Owns which figures the report of a table has: that of its kind, how the runs learned, and what they cost."""

from collections.abc import Iterator

from matplotlib.figure import Figure

from recipes.reports.captions import CAPTIONS, TABLE_CAPTIONS, fill
from recipes.reports.figures_distribution import draw_distribution
from recipes.reports.figures_gap import draw_gap
from recipes.reports.figures_lines import draw_curve, draw_layers
from recipes.reports.figures_rows import draw_rows, row_colours
from recipes.reports.figures_runs import draw_cost, draw_multiples
from recipes.reports.results import RunRecord
from recipes.reports.table_page import TablePage

MOST_PANELS = 32
"""Small panels, or bars, up to which a figure of the runs is drawn: more would not be read."""
MEASURES = {"loss": "training loss", "knn_top1": "k-NN top-1, %", "teacher_entropy": "teacher entropy, nats"}
"""What is drawn of every stage, where its metrics.jsonl has it, beside the table's own metrics."""


def table_figures(page: TablePage) -> Iterator[tuple[str, Figure, str]]:
    """Yield (name, figure, caption) of every figure there are numbers for."""
    findings, words = page.findings, page.words
    drawn = [*_main_figures(page), *_learning(page)]
    if len(page.costs) <= MOST_PANELS:
        names = [", ".join(page.tables.titles(cost.levels, list(cost.levels))) for cost in page.costs]
        colours = row_colours(findings)
        shades = colours if len(colours) == len(names) else colours[:1] * len(names)
        drawn.append(("cost", draw_cost(page.costs, names, shades), CAPTIONS["cost"]))
    known = {
        "metric": words.metric(findings.main),
        "repeats": findings.reading.repeats,
        "over": words.title(findings.reading.figure.over or ""),
    }
    for name, drawing, caption in drawn:
        if drawing is not None:
            yield name, drawing, fill(caption, **known)


def _main_figures(page: TablePage) -> Iterator[tuple[str, Figure | None, str]]:
    """Yield the figure of the reading's kind; for rows, one for each metric."""
    findings, words, kind = page.findings, page.words, page.findings.reading.figure.kind
    caption = TABLE_CAPTIONS[kind]
    if kind == "rows":
        for column in findings.reading.metrics:
            metric = words.metric(column).replace("{", "{{").replace("}", "}}")
            yield f"table_{column}", draw_rows(findings, words, column), caption.replace("{metric}", metric)
        return
    draw = {"curve": draw_curve, "gap": draw_gap, "layers": draw_layers, "distribution": draw_distribution}[kind]
    yield f"table_{kind}", draw(findings, words), caption


def _learning(page: TablePage) -> Iterator[tuple[str, Figure | None, str]]:
    """Yield how the runs of every stage learned: the table's metrics on the way, loss, k-NN, teacher entropy."""
    wanted = {
        metric.partition("@")[0]: page.words.title(column) for column, metric in page.findings.reading.metrics.items()
    }
    wanted |= {
        name.replace("test_", "validation_"): f"{title}, validation"
        for name, title in wanted.items()
        if "test_" in name
    }
    for number, stage in enumerate(reversed(page.study.plan.study.stages)):
        groups = _by_row(page, stage.name)
        if not 0 < len(groups) <= MOST_PANELS:
            continue
        for measure, title in (wanted | MEASURES if not number else MEASURES).items():
            kind = "curves" if not number else "learning"
            caption = TABLE_CAPTIONS["curves"].replace("{stage}", stage.name).replace("{measure}", title)
            yield f"{kind}_{stage.name}_{measure}", draw_multiples(groups, measure, title), caption


def _by_row(page: TablePage, stage: str) -> dict[str, list[RunRecord]]:
    """Return the runs of a stage by the names of their levels; the repeats and the draws of a distribution left out."""
    groups: dict[str, list[RunRecord]] = {}
    for run in page.study.of_stage(stage):
        axes = [axis for axis in page.measured_axes() if axis in run.planned.levels]
        groups.setdefault(", ".join(page.tables.titles(run.planned.levels, axes)) or stage, []).append(run)
    return groups
