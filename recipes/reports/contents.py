"""Table of contents of a page: the headings of its sections, each with an anchor."""

import re
from dataclasses import dataclass

from markupsafe import Markup

_SECTION = re.compile(r"<section>\s*<h2>(.*?)</h2>", re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """A section of a page: its anchor and its heading, as HTML."""

    anchor: str
    heading: Markup


@dataclass(frozen=True)
class Contents:
    """The sections of a page, and its HTML with their anchors."""

    entries: tuple[Entry, ...]
    html: Markup


def find_contents(html: str) -> Contents:
    """Return the sections of a page, `<section><h2>…</h2>`; each becomes a region named by its heading."""
    entries: list[Entry] = []

    def anchored(match: re.Match[str]) -> str:
        words = re.sub(r"<[^>]+>|&[a-z#0-9]+;", " ", match.group(1)).lower()
        name = "section-" + ("-".join(re.findall(r"[a-z0-9]+", words)) or "page")
        taken = sum(re.fullmatch(rf"{re.escape(name)}(-\d+)?", entry.anchor) is not None for entry in entries)
        anchor = f"{name}-{taken + 1}" if taken else name
        entries.append(Entry(anchor, Markup(match.group(1))))
        label = re.sub(r"<[^>]+>", "", match.group(1))
        return f'<section aria-label="{label}">\n<h2 id="{anchor}">{match.group(1)}</h2>'

    linked = Markup(_SECTION.sub(anchored, html))
    return Contents(tuple(entries), linked)
