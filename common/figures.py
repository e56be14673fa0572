"""matplotlib as all figures use it: with its own defaults, whatever the environment and the user's settings files say.

The only module that imports matplotlib. The import itself reads MPLBACKEND and a matplotlibrc (in the working directory, at
MATPLOTLIBRC, in the user's configuration), and fails for a backend that is not installed or a file that is not UTF-8; so it does
not see them. If a notebook has imported matplotlib before, `figure_settings` overrides what it has set.
"""

import importlib.util
import io
import logging
import os
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
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

__all__ = ["Axes", "Figure", "Line2D", "figure_settings", "png_bytes", "svg_text"]

DOTS_PER_INCH = 200
"""Resolution of PNG files."""


@contextmanager
def figure_settings(style: Mapping[str, Any]) -> Iterator[None]:
    """Apply matplotlib's defaults and `style` within a `with` block; figures are built and rendered under the same settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(style)
        yield


def png_bytes(figure: Figure, style: Mapping[str, Any]) -> bytes:
    """Return a figure that was built under `figure_settings(style)` as a PNG file."""
    buffer = io.BytesIO()
    with figure_settings(style):
        FigureCanvasAgg(figure).print_figure(buffer, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def svg_text(figure: Figure, style: Mapping[str, Any], *, transparent: bool = True) -> str:
    """Return a figure that was built under `figure_settings(style)` as an SVG file, transparent or with the style's background."""
    buffer = io.StringIO()
    with figure_settings(style):
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", transparent=transparent, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
