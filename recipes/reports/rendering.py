"""Rendering of figures: PNG and PDF files, and compact SVG for the page, which follows its theme and is read by screen readers."""

import html
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from common.figures import Figure, figure_settings, pdf_bytes, png_bytes, svg_text
from recipes.reports.figure_style import NARROW_WIDTH, STYLE, VARIABLES
from recipes.reports.figure_text import description_of, fit_text

CSS = """
.figure-narrow { display: none !important; }
@media screen and (max-width: 40rem) {
  figure svg.figure-wide { display: none !important; }
  figure svg.figure-narrow { display: block !important; min-width: 0; }
}
"""
"""Style of the page that shows either the wide or the narrow SVG of a figure."""
_DIGITS = {"d": 1, "x": 1, "y": 1, "points": 1, "transform": 2}
"""Decimals of an SVG's coordinates by attribute, in points: a tenth of a point is a seventh of a pixel of the page."""
_NUMBER = re.compile(r"-?\d*\.?\d+(?:e-?\d+)?")


@dataclass(frozen=True)
class RenderedFigure:
    """A figure for both templates."""

    file: str
    """PNG file, relative to the page."""
    pdf: str
    """PDF file, relative to the page."""
    svg: str
    """Inline SVG elements: a wide one and, if the figure has that form, a narrow one; the page's style shows one of them."""
    caption: str


def settle(fig: Figure) -> None:
    """Lay a figure out for good, before it is rendered in several formats."""
    with figure_settings(STYLE):
        fit_text(fig)


def to_png(fig: Figure) -> bytes:
    """Return a figure as a PNG on a light background."""
    return png_bytes(fig, STYLE)


def to_pdf(fig: Figure) -> bytes:
    """Return a figure as a PDF on a light background, with its fonts embedded."""
    return pdf_bytes(fig, STYLE)


def is_of_narrow_width(fig: Figure) -> bool:
    """Return whether a figure was drawn for narrow screens."""
    return bool(fig.get_figwidth() <= NARROW_WIDTH)


def to_svg(fig: Figure, name: str, label: str, *, kind: str = "") -> str:
    """Return a figure as an inline SVG element of the class `figure-<kind>`.

    Colors are CSS variables, text is text, and ids begin with `name`. Screen readers read `label` and the figure's description.
    """
    text = svg_text(fig, STYLE)
    text = re.sub(r"<(metadata|style)\b.*?</\1>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = _without_groups(_compact(re.sub(r"<[^>]*>", lambda tag: _themed(tag[0]), text)))
    text = re.sub(r"<[^>]*>", lambda tag: _named(tag[0], name), text)
    tag = re.sub(r' (width|height|version|xmlns)="[^"]*"', "", text[: text.index(">")])
    attributes = f' class="figure-{kind}"' if kind else ""
    attributes += f' role="img" aria-label="{html.escape(label)}"'
    content = text[text.index(">") + 1 :]
    if description := description_of(fig):
        attributes += f' aria-describedby="{name}-description"'
        content = f'<desc id="{name}-description">{html.escape(description, quote=False)}</desc>{content}'
    return f"{tag.replace('<svg', f'<svg{attributes}', 1)}>{content}"


def _themed(tag: str) -> str:
    """Return a tag with the colors and the font of the page. Texts are not changed: a class may be called sans-serif."""
    for color, variable in VARIABLES.items():
        tag = tag.replace(color, f"var({variable})")
    return tag.replace("'DejaVu Sans'", "inherit").replace("sans-serif", "inherit")


def _named(tag: str, name: str) -> str:
    """Return a tag whose ids, and links to others, begin with `name`."""
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", tag.replace('id="', f'id="{name}-'))


def _compact(text: str) -> str:
    """Return an SVG without invisible precision, unused ids, and white space between elements."""
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r">\s+<", "><", text)
    text = re.sub(r'style="([^"]*)"', lambda match: f'style="{_compact_style(match[1])}"', text)
    definitions = [match.span() for match in re.finditer(r"<defs>.*?</defs>", text, re.DOTALL)]
    parts, end = [], 0
    for start, stop in definitions:  # of markers and clip paths, a few points in size: more digits
        parts += [_round(text[end:start], 0), _round(text[start:stop], 1)]
        end = stop
    return "".join([*parts, _round(text[end:], 0)])


def _compact_style(style: str) -> str:
    """Return a style attribute without the spaces that it does not need."""
    return re.sub(r"\s*([:;])\s*", r"\1", style).rstrip(";")


def _round(text: str, more: int) -> str:
    """Return a part of an SVG with its coordinates rounded, to `more` digits more than the figure's own."""

    def attribute(match: re.Match[str]) -> str:
        digits = _DIGITS[match[1]] + more
        if match[1] == "d":
            return f' d="{compact_path(match[2], digits)}"'
        return f' {match[1]}="{_NUMBER.sub(lambda number: _short(float(number[0]), digits), match[2])}"'

    return re.sub(r' (d|x|y|points|transform)="([^"]*)"', attribute, text)


def compact_path(path: str, digits: int) -> str:
    """Return the data of a path with short numbers; of lines, with coordinates relative to the previous point."""
    commands = re.findall(r"([MLCQZz])([^MLCQZz]*)", path)
    if any(command in "CQ" for command, _ in commands):
        return re.sub(r"\s*([A-Za-z])\s*", r"\1", _NUMBER.sub(lambda number: _short(float(number[0]), digits), path))
    return "".join(_relative(commands, 10**digits, lambda value: _short(value, digits)))


def _relative(commands: list[tuple[str, str]], scale: int, short: Callable[[float], str]) -> Iterator[str]:
    """Yield the parts of a path of lines, relative to the previous point as rounded, so that no error adds up."""
    place, start, previous = (0, 0), (0, 0), ""
    for command, numbers in commands:
        if command in "Zz":
            yield "z"
            place, previous = start, ""
            continue
        x, y = (round(float(number) * scale) for number in numbers.split())
        pair = (short((x - place[0]) / scale), short((y - place[1]) / scale))
        if command == "L" and (x, y) == place:
            continue  # nothing to see
        name = "m" if command == "M" else "l"
        separator = name if name != previous or name == "m" else "" if pair[0].startswith("-") else " "
        yield f"{separator}{pair[0]}{'' if pair[1].startswith('-') else ' '}{pair[1]}"
        place, previous = (x, y), name
        start = place if command == "M" else start


def _short(value: float, digits: int) -> str:
    """Return a number with at most so many decimals, without zeros that it does not need."""
    text = f"{value:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    text = text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text
    return "0" if text in ("", "-", "-0") else text


def _without_groups(text: str) -> str:
    """Return an SVG without the groups that have no attribute."""
    parts, has_attributes = [], []
    for part in re.split(r"(<g\b[^>]*>|</g>)", text):
        if part.startswith("<g") and re.match(r"<g\b", part) and not part.endswith("/>"):
            has_attributes.append(part != "<g>")
            parts.append(part if has_attributes[-1] else "")
        elif part == "</g>":
            parts.append(part if has_attributes.pop() else "")
        else:
            parts.append(part)
    return "".join(parts)
