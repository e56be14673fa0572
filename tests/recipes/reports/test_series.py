"""Looks of series: distinguishable in both themes, for the common kinds of color blindness, and in gray print."""

import itertools
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from recipes.reports import report
from recipes.reports.figure_style import FAINT, INK, MUTED, PAPER, VARIABLES
from recipes.reports.series import HATCHES, LINES, MARKERS, SERIES, assign_series, series_number

Floats = npt.NDArray[np.float64]
THRESHOLD = 12.0
"""Least CIEDE2000 distance of any two series; 1 is just noticeable side by side."""
LIGHTNESS = 20.0
"""Least distance in lightness (CIELAB, of 100) of the first two series, which most figures have: for gray print."""
CONTRAST = 3.0
"""Least contrast to the background (WCAG 2.2, 1.4.11, graphical objects)."""
SIMULATIONS = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900],
    ],
}  # fmt: skip
"""Matrices on linear RGB: Machado, Oliveira and Fernandes 2009, severity 1.0."""
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to XYZ (IEC 61966-2-1, D65)."""


def linear(color: str) -> Floats:
    """Return a color `#rrggbb` as linear RGB."""
    values = np.array([int(color[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def cielab(rgb: Floats) -> Floats:
    """Return linear RGB as CIELAB."""
    ratios = XYZ @ np.clip(rgb, 0, 1) / XYZ.sum(1)
    x, y, z = np.where(ratios > 216 / 24389, np.cbrt(ratios), (24389 / 27 * ratios + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(first: Floats, second: Floats) -> float:
    """Return the color distance of two CIELAB colors: Sharma, Wu and Dalal 2005."""
    (l1, a1, b1), (l2, a2, b2) = first, second
    mean = (np.hypot(a1, b1) + np.hypot(a2, b2)) / 2
    factor = 1 + (1 - np.sqrt(mean**7 / (mean**7 + 25.0**7))) / 2
    c1, c2 = np.hypot(a1 * factor, b1), np.hypot(a2 * factor, b2)
    h1, h2 = np.degrees(np.arctan2([b1, b2], [a1 * factor, a2 * factor])) % 360
    turn = (h2 - h1 + 180) % 360 - 180
    chroma, lightness = (c1 + c2) / 2, (l1 + l2) / 2
    hue = (h1 + h2) / 2 if abs(h1 - h2) <= 180 else ((h1 + h2 + 360) / 2) % 360
    cosines = np.cos(np.radians([hue - 30, 2 * hue, 3 * hue + 6, 4 * hue - 63]))
    t = 1 + np.dot([-0.17, 0.24, 0.32, -0.20], cosines)
    parts = np.array([
        (l2 - l1) / (1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2)),
        (c2 - c1) / (1 + 0.045 * chroma),
        2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t),
    ])  # fmt: skip
    rotation = -np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2))))
    rotation *= 2 * np.sqrt(chroma**7 / (chroma**7 + 25.0**7))
    return float(np.sqrt(np.sum(parts**2) + rotation * parts[1] * parts[2]))


def css_variables() -> list[dict[str, str]]:
    """Return the colors of every block of report.css: light, dark, print."""
    text = (Path(report.TEMPLATES) / "report.css").read_text()
    blocks = [block for block in re.findall(r":root \{(.*?)\}", text, re.DOTALL) if "--series-0" in block]
    return [dict(re.findall(r"(--[\w-]+): (#[0-9a-f]{3,6});", block)) for block in blocks]


def themes() -> dict[str, list[str]]:
    """Return the colors of the series, preceded by the background, by theme of the page."""
    light, dark, _ = css_variables()
    names = ["--paper", *(f"--series-{number}" for number in range(len(SERIES)))]
    return {"light": [light[name] for name in names], "dark": [dark[name] for name in names]}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_distance_is_that_of_published_pairs(
    first: tuple[float, ...], second: tuple[float, ...], expected: float
) -> None:
    """Pairs 1, 17, 22, 30 and 34 of table 1 of Sharma, Wu and Dalal."""
    assert ciede2000(np.array(first), np.array(second)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("vision", SIMULATIONS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_any_two_series_differ_in_color(theme: str, vision: str) -> None:
    colors = [cielab(np.array(SIMULATIONS[vision]) @ linear(color)) for color in themes()[theme][1:]]
    distances = {pair: ciede2000(colors[pair[0]], colors[pair[1]]) for pair in itertools.combinations(range(10), 2)}
    closest = min(distances, key=lambda pair: distances[pair])
    assert distances[closest] >= THRESHOLD, f"series {closest}: {distances[closest]:.1f}"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_series_stand_out_from_the_background_and_the_first_two_in_gray(theme: str) -> None:
    paper, *colors = ((XYZ @ linear(color))[1] for color in themes()[theme])
    ratios = [(max(paper, color) + 0.05) / (min(paper, color) + 0.05) for color in colors]
    assert min(ratios) >= CONTRAST
    first, second = (cielab(linear(color))[0] for color in themes()[theme][1:3])
    assert abs(first - second) >= LIGHTNESS


def test_any_two_of_ten_series_differ_in_marker_line_and_hatch() -> None:
    looks = [series_number(number) for number in range(10)]
    for name in ("color", "marker", "line", "hatch"):
        assert len({getattr(look, name) for look in looks}) == 10, name
    assert len(SERIES) == len(MARKERS) == len(LINES) == len(HATCHES) == 10


def test_further_series_are_combinations_of_their_own() -> None:
    looks = [series_number(number) for number in range(100)]
    assert len({(look.color, look.line) for look in looks}) == 100


def test_a_level_has_one_look() -> None:
    looks = assign_series(["OST", "TST", "OST", "conv"])
    assert list(looks) == ["OST", "TST", "conv"]
    assert list(looks.values()) == [series_number(number) for number in range(3)]


def test_the_page_has_the_colors_of_the_files() -> None:
    light, dark, printed = css_variables()
    for color, variable in VARIABLES.items():
        assert light[variable] == color
        assert variable in dark
    assert {name: printed[name] for name in printed if "series" in name} == {
        name: light[name] for name in light if "series" in name
    }
    assert {INK, MUTED, FAINT, PAPER, *SERIES} == set(VARIABLES)
