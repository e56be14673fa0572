"""matplotlib as all figures use it: with its own defaults, whatever the environment and the user's settings files say.

The only module that imports matplotlib. The import itself reads MPLBACKEND and a matplotlibrc (in the working directory, at
MATPLOTLIBRC, in the user's configuration), and fails for a backend that is not installed or a file that is not UTF-8; so it does
not see them. If a notebook has imported matplotlib before, `figure_settings` overrides what it has set.
"""

import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

_log = logging.getLogger("matplotlib")
_log.setLevel(max(_log.level, logging.ERROR))  # it logs the temporary folder for its cache where the home is read-only


@contextmanager
def _no_user_settings() -> Iterator[None]:
    """Hide MPLBACKEND and every matplotlibrc except the one in matplotlib's own folder from the import of matplotlib."""
    spec, exists = importlib.util.find_spec("matplotlib"), os.path.exists
    assert spec is not None and spec.origin is not None, "matplotlib is a dependency"
    defaults = Path(spec.origin).parent / "mpl-data" / "matplotlibrc"
    with (
        mock.patch.dict(os.environ, {"MPLBACKEND": "agg", "MATPLOTLIBRC": str(defaults)}),
        mock.patch("os.path.exists", lambda path: path != "matplotlibrc" and exists(path)),  # in the working directory
    ):
        yield


with _no_user_settings():
    import matplotlib
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.font_manager import findfont, get_font
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.text import Text
    from matplotlib.ticker import FixedLocator, MaxNLocator
    from matplotlib.transforms import Bbox as Bounds

__all__ = [
    "Axes",
    "Bounds",
    "Figure",
    "FixedLocator",
    "Line2D",
    "MaxNLocator",
    "Patch",
    "Text",
    "figure_settings",
    "missing_characters",
    "pdf_bytes",
    "png_bytes",
    "svg_text",
    "text_bounds",
    "update_layout",
]

DOTS_PER_INCH = 200
"""Resolution of PNG files."""


@contextmanager
def figure_settings(style: Mapping[str, Any]) -> Iterator[None]:
    """Apply matplotlib's defaults and `style` within a `with` block; figures are built and rendered under the same settings.

    A dollar sign in a name is one. Characters that the font lacks cause no warning for each of them (`missing_characters`).
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"text.parse_math": False, **style})
        yield


def png_bytes(figure: Figure, style: Mapping[str, Any]) -> bytes:
    """Return a figure that was built under `figure_settings(style)` as a PNG file."""
    buffer, dots_per_inch = io.BytesIO(), figure.dpi
    with figure_settings(style):
        figure.dpi = DOTS_PER_INCH
        # Not savefig, which draws every figure twice.
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
        figure.dpi = dots_per_inch
    return buffer.getvalue()


def pdf_bytes(figure: Figure, style: Mapping[str, Any]) -> bytes:
    """Return a figure that was built under `figure_settings(style)` as a PDF file without a date, with its fonts embedded."""
    buffer, dots_per_inch = io.BytesIO(), figure.dpi
    with figure_settings(style):
        FigureCanvasPdf(figure).print_pdf(buffer, metadata={"CreationDate": None, "Creator": None, "Producer": None})
        figure.dpi = dots_per_inch
    return buffer.getvalue()


def svg_text(figure: Figure, style: Mapping[str, Any], *, transparent: bool = True) -> str:
    """Return a figure that was built under `figure_settings(style)` as an SVG file, transparent or with the style's background."""
    buffer, color, dots_per_inch = io.StringIO(), figure.get_facecolor(), figure.dpi
    with figure_settings(style):
        if transparent:
            figure.set_facecolor("none")
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None, "Creator": None})
        figure.set_facecolor(color)
        figure.dpi = dots_per_inch
    return buffer.getvalue()


def missing_characters(figure: Figure, style: Mapping[str, Any]) -> set[str]:
    """Return the characters of a figure's texts that the style's font lacks: PNG and PDF files have boxes in their place."""
    texts = "".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())
    known = get_font(findfont(style["font.family"])).get_charmap()
    return {character for character in texts if character.isprintable() and ord(character) not in known}


def update_layout(figure: Figure) -> None:
    """Apply the layout of a figure, as drawing it does."""
    FigureCanvasAgg(figure)
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)


def text_bounds(figure: Figure, artist: Artist) -> Bounds:
    """Return the bounds of a text, or of another artist, in pixels of the figure's resolution."""
    canvas = figure.canvas if isinstance(figure.canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)
    return artist.get_window_extent(canvas.get_renderer())
