"""Owns writing a study's report: page, Markdown, CSV and figures, from run folders alone."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import write_whole
from recipes.reports.comparison_figures import comparison_figures
from recipes.reports.comparison_page import ComparisonPage
from recipes.reports.figure_style import to_png, to_svg
from recipes.reports.results import StudyRecord, read_study, write_csv
from recipes.reports.table_figures import table_figures
from recipes.reports.table_page import TablePage
from recipes.study.specification import TableReading

TEMPLATES = Path(__file__).resolve().parent / "templates"

Report = ComparisonPage | TablePage
"""What stands on the page of either kind of study."""


@dataclass(frozen=True)
class Drawn:
    """A figure as both templates take it: its file under figures/, its inline SVG, and its caption."""

    file: str
    svg: str
    caption: str


def write_report(folder: Path) -> Report:
    """Write the report of the study in `folder`; return what stands on its page."""
    return write_pages(read_study(folder))


def write_pages(study: StudyRecord) -> Report:
    """Write the report of a study that was read, into its folder."""
    page = page_of(study)
    for name, text in render(page, _draw(page)).items():
        write_whole(study.folder / name, text, by_many=True)
    write_whole(study.folder / "results.csv", write_csv(study), by_many=True)
    return page


def page_of(study: StudyRecord) -> Report:
    """Return what stands on a study's page: that of a table, or that of a comparison."""
    return TablePage(study) if isinstance(study.plan.study.reading, TableReading) else ComparisonPage(study)


def render(page: Report, figures: Mapping[str, Drawn]) -> dict[str, str]:
    """Return the text of report.html and report.md, by file."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=lambda name: bool(name and ".html" in name),
    )
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    texts = {}
    for kind in ("html", "md"):
        text = environment.get_template(f"{page.template}.{kind}.j2").render(page=page, figures=figures, style=style)
        texts[f"report.{kind}"] = re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"
    return texts


def _draw(page: Report) -> dict[str, Drawn]:
    """Write the figures of a page as PNG files; return them by name."""
    folder, figures = page.study.folder, {}
    for name, drawing, caption in table_figures(page) if isinstance(page, TablePage) else comparison_figures(page):
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / f"{name}.png").write_bytes(to_png(drawing))
        figures[name] = Drawn(f"figures/{name}.png", to_svg(drawing, name, caption), caption)
    return figures
