"""Parts of a study's report as Markdown, which documents hold between markers: sentences, tables, origin."""

from collections.abc import Callable, Iterable, Mapping

from recipes.publish.origin import Origin, describe_origin
from recipes.publish.planned_now import describe_age
from recipes.reports.comparison.page import ComparisonPage
from recipes.reports.replication.page import TablePage
from recipes.reports.report import Report
from recipes.reports.run_tables import Table

Parts = Mapping[str, Callable[[], str]]
"""Functions that return the text of a part, by its name."""


def parts_of(page: Report, origin: Origin) -> dict[str, Callable[[], str]]:
    """Return the parts of a report: those of every report, and those of its kind."""
    facts = page.facts()
    tables = page.tables
    parts: dict[str, Callable[[], str]] = {
        "question": lambda: page.question,
        "advice": lambda: _bullets(page.advice()),
        "headline": lambda: page.words.headline(),
        "size": lambda: ", ".join(facts[:-1]),
        "origin": lambda: "\n\n".join(
            [
                *_warnings([describe_age(page.study.plan)]),
                _bullets(describe_origin(page.study, origin, ", ".join(facts))),
            ]
        ),
        "answer": lambda: "\n\n".join(
            [f"**{page.words.headline()}**", *_warnings(page.warnings()), _bullets(page.answer())]
        ),
        "notes": lambda: _bullets(page.notes()),
        "costs": lambda: _table(tables.costs(page.costs)),
        "statuses": lambda: _table(tables.statuses()),
        "failed_runs": lambda: _table(tables.failed_runs()),
        "earlier_stages": lambda: _table(tables.earlier_stages()),
        "runs": lambda: _table(tables.runs()),
    }
    own = _of_table(page) if isinstance(page, TablePage) else _of_comparison(page)
    return parts | own


def _of_comparison(page: ComparisonPage) -> dict[str, Callable[[], str]]:
    """Return the parts of a comparison."""
    tables = page.tables
    return {
        "claims": lambda: _table(tables.claims()),
        "accuracies": lambda: _table(tables.accuracies()),
        "baselines": lambda: _table(tables.baselines()),
        "choices": lambda: _table(tables.choices()),
        "savings": lambda: _table(tables.savings()),
        "divergences": lambda: _table(tables.divergences()),
        "differences": lambda: "\n\n".join(_table(tables.differences(effect)) for effect in page.findings.effects),
    }


def _of_table(page: TablePage) -> dict[str, Callable[[], str]]:
    """Return the parts of a report compared with a published table."""
    tables = page.tables
    return {
        "rows": lambda: "\n\n".join([*page.table_lead(), *map(_table, page.main_tables()), *page.footnotes()]),
        "claims": lambda: _table(tables.claims(page.claims)),
        "rankings": lambda: _table(tables.rankings(page.agreements)),
    }


def _table(table: Table) -> str:
    """Return a table as Markdown, or that it is empty."""
    if not table.rows:
        return "None."
    marks = [":---" if number < table.num_names else "---:" for number in range(len(table.header))]
    lines = [_line(table.header), f"|{'|'.join(marks)}|", *map(_line, table.rows)]
    return "\n".join(lines)


def _line(entries: Iterable[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(entry.replace('|', chr(92) + '|') for entry in entries)} |"


def _bullets(sentences: Iterable[str]) -> str:
    """Return sentences as a list."""
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _warnings(sentences: Iterable[str]) -> list[str]:
    """Return the sentences that are not empty, in bold."""
    return [f"**{sentence}**" for sentence in sentences if sentence]
