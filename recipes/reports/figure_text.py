"""Text of figures: placed so that no two texts overlap and none leaves the canvas; and what a figure shows, in sentences."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from common.figures import Axes, Bounds, Figure, FixedLocator, Line2D, Text, text_bounds, update_layout

END_LABEL = "end label"
"""`gid` of a text that `fit_text` keeps left of the right end of its axes, by a longer axis."""
POINT_LABEL = "point label"
"""`gid` of a text beside a point that `fit_text` leaves out where it collides with another text."""
MOST_SENTENCES = 60
"""Most sentences of a description; a table of the page has the other numbers."""
LEGEND_LINE = 0.3
"""Height of a legend of one line in inches, for which figures have room."""
_GAP = 4.0
"""Least distance between the labels of an axis, in pixels of 1/100 inch."""
_descriptions: WeakKeyDictionary[Figure, list[str]] = WeakKeyDictionary()


def describe(fig: Figure, *sentences: str) -> None:
    """Add sentences with the main numbers to the description of a figure, which screen readers read."""
    _descriptions.setdefault(fig, []).extend(sentence for sentence in sentences if sentence)


def description_of(fig: Figure) -> str:
    """Return the description of a figure: what was added by `describe`, or else the values of its labeled lines."""
    sentences = _descriptions.get(fig) or list(_described_lines(fig))
    hidden = len(sentences) - MOST_SENTENCES
    more = [f"{hidden} more values are in the tables of this page"] if hidden > 0 else []
    return " ".join(f"{sentence.rstrip('.')}." for sentence in [*sentences[:MOST_SENTENCES], *more])


def labeled_lines(axes: Axes) -> list[tuple[str, Line2D]]:
    """Return the lines that have a label, with it; matplotlib's legends leave out labels that begin with an underscore."""
    lines = [(str(line.get_label()), line) for line in axes.get_lines()]
    return [(label, line) for label, line in lines if not re.fullmatch(r"_child\d+", label)]


def _described_lines(fig: Figure) -> Iterable[str]:
    """Yield the first and the last value of every labeled line."""
    for axes in fig.axes:
        title = axes.get_title(loc="left")
        for label, line in labeled_lines(axes):
            values = [float(value) for value in np.asarray(line.get_ydata(), dtype=float) if math.isfinite(value)]
            if values:
                yield f"{f'{title}, ' if title else ''}{label}: from {values[0]:.4g} to {values[-1]:.4g}"


def fit_legend(fig: Figure, entries: Mapping[str, Any], **options: Any) -> None:
    """Draw a legend of (label, handle) above the figure in as many columns as fit its width, and make room for it."""
    if not entries:
        return
    limit = fig.bbox.width - 8
    options = {"loc": "outside upper left", "handlelength": 3.2, "columnspacing": 1.4, **options}
    labels = list(entries)
    for columns in range(len(labels), 0, -1):
        legend = fig.legend(list(entries.values()), labels, ncols=columns, **options)
        width = text_bounds(fig, legend).width
        if width <= limit:
            _make_room(fig, text_bounds(fig, legend).height)
            return
        legend.remove()
    longest = max(map(len, labels))
    short = max(12, int(longest * (limit - 60) / width))
    labels = [_wrapped(label, short) for label in labels]
    legend = fig.legend(list(entries.values()), labels, ncols=1, **options)
    _make_room(fig, text_bounds(fig, legend).height)


def _make_room(fig: Figure, height: float) -> None:
    """Make a figure higher by the part of its legend's height that is more than a line."""
    fig.set_figheight(fig.get_figheight() + max(0.0, height / fig.dpi - LEGEND_LINE))


def fit_text(fig: Figure) -> None:
    """Lay a figure out for good: titles wrapped to their axes, no colliding tick labels, labels at ends inside of the axes."""
    for _ in range(4):
        update_layout(fig)
        # A list, so that every kind of text is fitted.
        changes = [change for axes in fig.axes for change in (_wrap_titles(fig, axes), _fit_end_labels(fig, axes))]
        changes += [_wrap_across(fig)]
        if not any(changes):
            break
    for axes in fig.axes:
        _thin_ticks(fig, axes)
        _thin_point_labels(fig, axes)
    fig.set_layout_engine("none")


def _wrap_titles(fig: Figure, axes: Axes) -> bool:
    """Wrap the title and the labels of the axes that are longer than these; return whether one was."""
    room = axes.get_window_extent()
    titles = [text for text in axes.get_children() if isinstance(text, Text) and _is_title(axes, text)]
    changed = [_wrap(fig, text, room.width, vertical=False) for text in [*titles, axes.xaxis.label]]
    return any([*changed, _wrap(fig, axes.yaxis.label, room.height, vertical=True)])


def _is_title(axes: Axes, text: Text) -> bool:
    """Return whether a text is a title of the axes."""
    return bool(text.get_text()) and any(text.get_text() == axes.get_title(loc=loc) for loc in ("left", "center"))


def _wrap_across(fig: Figure) -> bool:
    """Wrap the labels of the whole figure; return whether one was too long."""
    changed = []
    for text, length, vertical in (
        (getattr(fig, "_supxlabel", None), fig.bbox.width, False),
        (getattr(fig, "_supylabel", None), fig.bbox.height, True),
    ):
        changed.append(text is not None and _wrap(fig, text, length - 10, vertical=vertical))
    return any(changed)


def _wrap(fig: Figure, text: Text, room: float, *, vertical: bool) -> bool:
    """Wrap a text that is longer than `room`; return whether it was."""
    content = text.get_text()
    if not content:
        return False
    bounds = text_bounds(fig, text)
    length = bounds.height if vertical else bounds.width
    longest = max(map(len, content.split("\n")))
    letters = max(6, int(longest * room / length) - 1)
    wrapped = _wrapped(content, letters)
    if length <= room or wrapped == content:
        return False
    text.set_text(wrapped)
    return True


def _wrapped(content: str, letters: int) -> str:
    """Return a text in lines of at most so many letters; words like `3Conv+3BN` are broken after a plus sign."""
    words = content.replace("+\n", "+").replace("\n", " ").replace("+", "+\0 ")
    return "\n".join(wrap(words, letters)).replace("+\0 ", "+").replace("\0", "")


def _fit_end_labels(fig: Figure, axes: Axes) -> bool:
    """Lengthen a linear x axis until every `END_LABEL` ends within it; return whether it was too short."""
    labels = [text for text in axes.texts if text.get_gid() == END_LABEL]
    room = axes.get_window_extent()
    factor = 1.0
    for text in labels:
        bounds = text_bounds(fig, text)
        if bounds.x1 > room.x1 and bounds.width < room.width:
            end = bounds.x0 - room.x0  # moves with the axis, the text's width does not
            factor = max(factor, end / max(room.width - bounds.width, 0.15 * room.width))
    if factor <= 1.001:
        return False
    low, high = axes.get_xlim()
    axes.set_xlim(low, low + (high - low) * min(factor * 1.01, 3.0))
    return True


def _thin_ticks(fig: Figure, axes: Axes) -> None:
    """Blank labels of the x axis that collide with the next one to the right which is kept."""
    if not isinstance(axes.xaxis.get_major_locator(), FixedLocator):
        return
    ticks, labels = list(axes.get_xticks()), axes.get_xticklabels()
    kept = _apart([text_bounds(fig, label) for label in labels])
    if not all(kept):
        texts = [label.get_text() if keep else "" for label, keep in zip(labels, kept, strict=True)]
        axes.set_xticks(ticks, texts)


def _thin_point_labels(fig: Figure, axes: Axes) -> None:
    """Remove every `POINT_LABEL` that collides with a label of an axis, a title or a label that is kept, or leaves the axes."""
    room = axes.get_window_extent()
    others = [
        *axes.get_xticklabels(),
        *axes.get_yticklabels(),
        *(text for text in axes.texts if not _is_optional(text)),
    ]
    kept = [text_bounds(fig, text) for text in others]
    for text in [text for text in axes.texts if _is_optional(text)]:
        bounds = text_bounds(fig, text)
        is_inside = room.x0 <= bounds.x0 and bounds.x1 <= room.x1 and room.y0 <= bounds.y0 and bounds.y1 <= room.y1
        if is_inside and not any(bounds.overlaps(other) for other in kept):
            kept.append(bounds)
        else:
            text.remove()


def _is_optional(text: Text) -> bool:
    """Return whether a text is a `POINT_LABEL`."""
    return bool(text.get_gid() == POINT_LABEL)


def _apart(bounds: Sequence[Bounds]) -> list[bool]:
    """Return which of the bounds to keep so that they do not collide: from the right, the first that fits."""
    order = sorted(range(len(bounds)), key=lambda number: -bounds[number].x1)
    kept = [False] * len(bounds)
    left = math.inf
    for number in order:
        if bounds[number].x1 + _GAP <= left or bounds[number].width == 0:
            kept[number] = True
            left = bounds[number].x0 if bounds[number].width else left
    return kept
