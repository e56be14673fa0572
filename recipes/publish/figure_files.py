"""Figures of the documents: SVG files that hold the numbers they draw, so that one can tell whether those have changed.

The bytes of an SVG depend on the version of matplotlib. What is compared is what is drawn: the points, labels, colors and line
styles of the axes, which the file has as JSON in its metadata. A figure that draws the same keeps its bytes.
"""

import json
import math
import re
from collections.abc import Mapping
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np

from common.figures import Axes, Figure, svg_text
from common.files import path_exists
from recipes.reports.figure_style import STYLE

_DATA = re.compile(r'<metadata id="drawn">(.*?)</metadata>', re.DOTALL)
PRECISION = 1e-6
"""Relative difference up to which two numbers are the same."""


def figure_file(root: Path, study: str, name: str) -> Path:
    """Return the file of a study's figure."""
    return root / "docs" / "figures" / f"{study}_{name}.svg"


def render_figure(figure: Figure) -> str:
    """Return a figure as an SVG file with a light background, text as outlines, and what it draws in its metadata."""
    text = svg_text(figure, {**STYLE, "svg.fonttype": "path"}, transparent=False)
    text = re.sub(r"\s*<metadata\b.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in drawn(figure))
    metadata = f'<metadata id="drawn">{escape("[" + lines + "]", quote=False)}</metadata>'
    text = re.sub(r"(<svg\b[^>]*>)", lambda match: f"{match[1]}\n{metadata}", text, count=1)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def is_current(path: Path, figure: Figure) -> bool:
    """Return whether a file draws what the figure draws."""
    found = _DATA.search(path.read_text(encoding="utf-8")) if path_exists(path) else None
    if found is None:
        return False
    try:
        stored = json.loads(unescape(found[1]))
    except ValueError:
        return False
    return _is_same(stored, json.loads(json.dumps(drawn(figure))))


def drawn(figure: Figure) -> list[dict[str, Any]]:
    """Return what a figure draws, an entry for each of its axes, lines, areas and texts; without what matplotlib chooses."""
    entries: list[dict[str, Any]] = [
        {"legend": [text.get_text() for text in each.get_texts()]} for each in figure.legends
    ]
    for axes in figure.axes:
        entries.append(_axes_entry(axes))
        entries += [_line_entry(line) for line in axes.get_lines()]
        entries += [
            {"area": [_numbers(path.vertices) for path in each.get_paths()], "color": _numbers(each.get_facecolor())}
            for each in axes.collections
        ]
        entries += [
            {
                "bar": _numbers(each.get_path().transformed(each.get_patch_transform()).vertices),
                "color": each.get_facecolor(),
            }
            for each in axes.patches
        ]
        entries += [{"text": text.get_text(), "at": _numbers(text.get_position())} for text in axes.texts]
    return entries


def _axes_entry(axes: Axes) -> dict[str, Any]:
    """Return the titles, scales and labels of axes, with those of the ticks that the figure sets itself."""
    ticks = {
        name: found for name, axis in (("x_ticks", axes.xaxis), ("y_ticks", axes.yaxis)) if (found := _ticks(axis))
    }
    title = axes.get_title(loc="left") or axes.get_title()
    scales = [axes.get_xscale(), axes.get_yscale()]
    return {"axes": title, "labels": [axes.get_xlabel(), axes.get_ylabel()], "scales": scales, **ticks}


def _ticks(axis: Any) -> list[Any]:
    """Return places and labels of the ticks of an axis, if the figure sets them; matplotlib's choice depends on its version."""
    places = getattr(axis.get_major_locator(), "locs", None)
    if places is None or not len(places):
        return []
    return [_numbers(places), [str(text) for text in axis.get_major_formatter().format_ticks(places)]]


def _line_entry(line: Any) -> dict[str, Any]:
    """Return the points and the style of a line."""
    style = {"color": line.get_color(), "marker": str(line.get_marker()), "style": str(line.get_linestyle())}
    style |= {"width": line.get_linewidth(), "alpha": line.get_alpha()}
    label = str(line.get_label())
    named = {} if label.startswith("_") else {"label": label}
    return {"line": [_numbers(line.get_xdata()), _numbers(line.get_ydata())], **named, **style}


def _numbers(values: Any) -> Any:
    """Return numbers as lists, rounded to 9 significant digits, None for those that are not finite."""
    if isinstance(values, list | tuple | np.ndarray):
        return [_numbers(value) for value in values]
    number = float(values)
    return float(f"{number:.9g}") if math.isfinite(number) else None


def _is_same(first: Any, second: Any) -> bool:
    """Return whether two drawings are the same up to rounding."""
    if isinstance(first, int | float) and isinstance(second, int | float):
        return math.isclose(first, second, rel_tol=PRECISION, abs_tol=PRECISION)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_is_same, first, second))
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(_is_same(first[key], second[key]) for key in first)
    return bool(first == second)
