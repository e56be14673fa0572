"""Writing of a study's report from its run folders: page, Markdown, CSV and figures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.files import write_atomic
from recipes.reports.comparison.figures import comparison_figures
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.figure_style import to_png, to_svg
from recipes.reports.replication.figures import table_figures
from recipes.reports.replication.page import TablePage
from recipes.reports.results import StudyRecord, read_study, write_csv
from recipes.reports.same_images import check_same_images
from recipes.study.specification import TableReportSpec

TEMPLATES = Path(__file__).resolve().parent / "templates"

Report = ComparisonPage | TablePage
"""Page content of either kind of study."""


@dataclass(frozen=True)
class RenderedFigure:
    """A figure for both templates: its file under figures/, its inline SVG, and its caption."""

    file: str
    svg: str
    caption: str


def write_report(folder: Path) -> Report:
    """Write the report of the study in `folder`; return its page content."""
    study = read_study(folder)
    check_same_images(study)
    return write_pages(study)


def write_pages(study: StudyRecord) -> Report:
    """Write the report of a study into its folder; return its page content."""
    page = page_of(study)
    for name, text in render(page, _draw(page)).items():
        write_atomic(study.folder / name, text, concurrent_writers=True)
    write_atomic(study.folder / "results.csv", write_csv(study), concurrent_writers=True)
    return page


def page_of(study: StudyRecord) -> Report:
    """Return the page content of a study: that of a published table, or that of a comparison."""
    return TablePage(study) if isinstance(study.plan.study.report, TableReportSpec) else ComparisonPage(study)


def render(page: Report, figures: Mapping[str, RenderedFigure]) -> dict[str, str]:
    """Return the text of report.html and report.md, by file name."""
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


def _draw(page: Report) -> dict[str, RenderedFigure]:
    """Write the figures of a page as PNG files; return them by name."""
    folder, figures = page.study.folder, {}
    for name, fig, caption in table_figures(page) if isinstance(page, TablePage) else comparison_figures(page):
        (folder / "figures").mkdir(exist_ok=True)
        write_atomic(folder / "figures" / f"{name}.png", to_png(fig), concurrent_writers=True)
        figures[name] = RenderedFigure(f"figures/{name}.png", to_svg(fig, name, caption), caption)
    return figures
