"""Owns writing a study's report: page, Markdown, CSV and figures, from run folders alone."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from recipes.captions import CAPTIONS, fill
from recipes.figure_style import to_png, to_svg
from recipes.figures import draw_curves, draw_differences, draw_effects, draw_savings, level_colours
from recipes.figures_runs import draw_cost, draw_learning
from recipes.page import Page
from recipes.plan import write_atomically
from recipes.results import read_study, write_csv

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass(frozen=True)
class Drawn:
    """A figure as both templates take it: its file under figures/, its inline SVG, and its caption."""

    file: str
    svg: str
    caption: str


def write_report(folder: Path) -> Page:
    """Write the report of the study in `folder`; return what stands on its page."""
    page = Page(read_study(folder))
    figures = {}
    for name, drawing, caption in _figures(page):
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / f"{name}.png").write_bytes(to_png(drawing))
        figures[name] = Drawn(f"figures/{name}.png", to_svg(drawing, name, caption), caption)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: bool(name and ".html" in name),
    )
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    for name in ("report.html", "report.md"):
        text = environment.get_template(f"{name}.j2").render(page=page, figures=figures, style=style)
        write_atomically(folder / name, re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n")
    write_atomically(folder / "results.csv", write_csv(page.study))
    return page


def _figures(page: Page) -> Iterator[tuple[str, Figure, str]]:
    """Yield (name, figure, caption) of every figure there are numbers for."""
    findings, words, main = page.findings, page.words, page.findings.main
    colours = level_colours(page.study.plan.study)
    drawn = [
        ("accuracy", draw_curves(findings, words, colours), CAPTIONS["accuracy"]),
        ("differences", draw_differences(findings, words, colours), CAPTIONS["differences"]),
        ("labels", draw_savings(findings, words, colours), CAPTIONS["labels"]),
        ("effects", draw_effects(findings, words, colours), CAPTIONS["effects"]),
        ("cost", draw_cost(page.costs, words, colours, main.axis), CAPTIONS["cost"]),
    ]
    for stage in page.study.plan.study.stages[:-1]:
        drawing = draw_learning(page.study, stage.name, words, colours)
        drawn.append((f"learning_{stage.name}", drawing, CAPTIONS["learning"].replace("{stage}", stage.name)))
    known = {**vars(findings.reading), "base": main.base, "other": main.other}
    for name, figure, caption in drawn:
        if figure is not None:
            yield name, figure, fill(caption, **known)
