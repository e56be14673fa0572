"""Writing of a study's report from its run folders: page, Markdown, CSV and figures."""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from common.errors import quoted
from common.figures import Figure, missing_characters
from common.files import write_atomic
from recipes.reports.comparison.figures import comparison_figures
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.figure_style import STYLE, narrow_layout
from recipes.reports.rendering import CSS, RenderedFigure, is_of_narrow_width, settle, to_pdf, to_png, to_svg
from recipes.reports.replication.figures import table_figures
from recipes.reports.replication.page import TablePage
from recipes.reports.results import StudyRecord, read_study, write_csv
from recipes.reports.same_images import check_same_images
from recipes.study.report_specification import TableReportSpec

logger = logging.getLogger(__name__)

TEMPLATES = Path(__file__).resolve().parent / "templates"

Report = ComparisonPage | TablePage
"""Page content of either kind of study."""


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
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8") + CSS
    texts = {}
    for kind in ("html", "md"):
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=kind == "html",
            finalize=None if kind == "html" else _without_tags,
        )
        environment.filters["code"] = Code
        text = environment.get_template(f"{page.template}.{kind}.j2").render(page=page, figures=figures, style=style)
        texts[f"report.{kind}"] = re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"
    return texts


class Code(str):
    """Text in a code block or in backticks, which Markdown shows as it is."""


def _without_tags(value: object) -> object:
    """Return an expression of a Markdown template with names such as <unknown> escaped: they would be taken for HTML."""
    if isinstance(value, Code):
        return value
    return re.sub(r"(?<!\\)<(?=[a-zA-Z/!?])", r"\\<", value) if isinstance(value, str) else value


def _draw(page: Report) -> dict[str, RenderedFigure]:
    """Write the figures of a page as PNG and PDF files; return them by name."""
    folder, figures, missing = page.study.folder / "figures", {}, set[str]()
    with narrow_layout():
        narrow = {name: fig for name, fig, _ in page_figures(page) if is_of_narrow_width(fig)}
    for name, fig, caption in page_figures(page):
        folder.mkdir(exist_ok=True)
        settle(fig)
        missing |= missing_characters(fig, STYLE)
        for suffix, content in (("png", to_png(fig)), ("pdf", to_pdf(fig))):
            write_atomic(folder / f"{name}.{suffix}", content, concurrent_writers=True)
        elements = [to_svg(fig, name, caption, kind="wide" if name in narrow else "")]
        if name in narrow:
            settle(narrow[name])
            elements.append(to_svg(narrow[name], f"{name}-narrow", caption, kind="narrow"))
        figures[name] = RenderedFigure(f"figures/{name}.png", f"figures/{name}.pdf", "\n".join(elements), caption)
    if missing:
        logger.warning(
            "figures: the font of the PNG and PDF files in %s lacks %s and shows boxes instead; the figures in report.html have the"
            " fonts of the browser.",
            folder,
            quoted(sorted(missing)),
        )
    return figures


def page_figures(page: Report) -> Iterator[tuple[str, Figure, str]]:
    """Yield (name, figure, caption) for every figure of a page whose numbers are available."""
    return table_figures(page) if isinstance(page, TablePage) else comparison_figures(page)
