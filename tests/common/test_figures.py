"""Figures: the same bytes whatever the environment and the user's settings of matplotlib are."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.figures import missing_characters
from recipes.reports.figure_style import STYLE, figure, legend_above
from recipes.reports.rendering import settle, to_pdf, to_png, to_svg

REPOSITORY = Path(__file__).resolve().parents[2]
DRAW_REPORT = """
import hashlib
from recipes.reports.figure_style import figure
from recipes.reports.rendering import settle, to_pdf, to_png, to_svg
with figure(3.0, 2.0, 1) as (fig, (axes,)):
    axes.plot([1, 2], [3, 4])
    axes.set_title("x$^2$")
settle(fig)
content = to_png(fig) + to_svg(fig, "name", "what").encode() + to_pdf(fig)
print(hashlib.sha256(content).hexdigest())
"""
DRAW = f"""{DRAW_REPORT}
from common.evaluation.token_similarity_figure import draw_similarity
print(hashlib.sha256(draw_similarity([0.1, 0.5], [0.0, 0.1])).hexdigest())
"""
SETTINGS = {
    "text.usetex": True,
    "font.family": "serif",
    "savefig.dpi": 30,
    "savefig.bbox": "tight",
    "axes.grid": True,
    "lines.linewidth": 9,
    "svg.fonttype": "path",
}


def draw(folder: Path, code: str = DRAW_REPORT, **environment: str) -> str:
    """Return the hashes of figures that a new process draws in the working directory `folder`, a line for each."""
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), **environment}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["$5_to_$10", r"a$\frac$", "_conv", "猫 <b> & co", "sans-serif", "#c96f00"])
def test_names_are_drawn_as_they_are(name: str) -> None:
    r"""matplotlib reads `$` as the begin of a formula, ended with a traceback at `$\frac$`, and warned of each of 猫."""
    with figure(3.0, 2.0, 1) as (fig, (axes,)):
        axes.plot([1, 2], [3, 4], label=name)
        axes.set_title(name)
        legend_above(fig, axes)
    settle(fig)
    to_png(fig)
    to_pdf(fig)
    assert (
        to_svg(fig, "name", "what").count(html.escape(name, quote=False)) == 4
    )  # title, legend, two in the description
    assert missing_characters(fig, STYLE) == {"猫"} & set(name)


@pytest.mark.long
def test_figures_do_not_depend_on_the_users_settings(tmp_path: Path) -> None:
    settings = "".join(f"{key}: {value}\n" for key, value in SETTINGS.items())
    for name in ("own", "home/.config/matplotlib", "damaged"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "matplotlibrc").write_bytes(b"\xff\xfe\n" if name == "damaged" else settings.encode())
    both = draw(tmp_path, DRAW)
    expected = both.splitlines(keepends=True)[0]
    home = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": "", "MPLCONFIGDIR": ""}
    own = {"MPLBACKEND": "module://not_installed", "MATPLOTLIBRC": str(tmp_path / "own")}
    assert draw(tmp_path / "own", DRAW, **own) == both
    assert draw(tmp_path / "damaged", **home) == expected
    assert draw(tmp_path, f"import matplotlib; matplotlib.rcParams.update({SETTINGS})\n{DRAW_REPORT}") == expected
    assert draw(tmp_path, MPLCONFIGDIR=os.devnull) == expected  # cannot be written


@pytest.mark.parametrize("package", ["common", "pretrain", "finetune", "recipes", "benchmarks"])
def test_only_one_module_imports_matplotlib(package: str) -> None:
    pattern = r"^\s*(import|from) matplotlib"
    files = [path for path in (REPOSITORY / package).rglob("*.py") if re.search(pattern, path.read_text(), re.M)]
    assert [path.name for path in files] == (["figures.py"] if package == "common" else [])
