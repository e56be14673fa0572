"""Pages in a browser, headless Chromium: what the first screen holds, and that nothing is clipped at 400 and 1400 pixels."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from comparison_studies import SCATTER, comparison_study, write_comparison
from table_studies import table1_outcome, table1_study, write_study

from recipes.reports.report import write_pages

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SCREENS = {"wide": (1400, 900), "narrow": (400, 800)}
PARTS = {"recommendation": "h1", "answers": ".cards", "cost": ".spent", "figure": ".lead figure svg"}
SCROLL_BOXES = ".scroll, .plot, pre"
SCRIPT = """
const measure = (frame) => {
  const page = frame.contentDocument, width = page.documentElement.clientWidth, parts = {};
  for (const [name, selector] of Object.entries(PARTS)) {
    const shown = [...page.querySelectorAll(selector)].find((each) => each.getBoundingClientRect().height > 0);
    const box = shown?.getBoundingClientRect();
    parts[name] = box ? {top: box.top, bottom: box.bottom, left: box.left, right: box.right} : null;
  }
  for (const each of page.querySelectorAll("details")) each.open = true;
  const isOutside = (box) => box.width > 0 && (box.right > width + 1 || box.left < -1);
  const outside = [...page.body.querySelectorAll("*:not(.skip)")].filter((each) =>
    isOutside(each.getBoundingClientRect()) && !each.parentElement.closest(BOXES));
  const cut = [...page.body.querySelectorAll("*")].filter((each) =>
    !each.closest("svg") && each.tagName !== "CAPTION" && each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0
    && !["visible", "auto", "scroll"].includes(frame.contentWindow.getComputedStyle(each).overflowX));
  const name = (each) => `${each.tagName.toLowerCase()}.${each.getAttribute("class") ?? ""}: ${each.textContent.slice(0, 60)}`;
  const links = [...page.querySelectorAll("nav a")].map((each) => page.querySelector(each.getAttribute("href"))?.textContent);
  return {parts, outside: outside.map(name), cut: cut.map(name), links, scrolls: page.documentElement.scrollWidth > width};
};
addEventListener("load", () => {
  const found = Object.fromEntries([...document.querySelectorAll("iframe")].map((frame) => [frame.id, measure(frame)]));
  document.getElementById("found").textContent = JSON.stringify(found);
});
"""


def browser() -> str:
    """Return the browser; skip the test without one."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser: one of {', '.join(BROWSERS)}")
    return found


def measure(pages: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Return the measurements of `SCRIPT` of every page on every screen, from a single start of the browser."""
    frames = [
        f'<iframe id="{name} {screen}" width="{width}" height="{height}" style="border: 0" srcdoc="{html.escape(page)}"></iframe>'
        for name, page in pages.items()
        for screen, (width, height) in SCREENS.items()
    ]
    script = f"const PARTS = {json.dumps(PARTS)}, BOXES = {json.dumps(SCROLL_BOXES)};{SCRIPT}"
    (folder / "frames.html").write_text(
        f"<!DOCTYPE html><meta charset='utf-8'><script>{script}</script>{''.join(frames)}<pre id='found'></pre>"
    )
    command = [
        browser(),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder / 'profile'}",
    ]
    command += ["--window-size=1500,1000", "--dump-dom", (folder / "frames.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found and found.group(1), f"the browser ended with {done.returncode}: {done.stderr[-2000:]}"
    measured: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return measured


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the measurements of a comparison's page and of a table's."""
    browser()
    folder = tmp_path_factory.mktemp("pages")
    (folder / "browser").mkdir()

    def value(at: Mapping[str, str]) -> Any:
        is_lost = (at["stem"], at["training"], at["fraction"], at["seed"]) == ("conv", "OST", "0.1", "1")
        return {"crash": 7} if is_lost else 80 + SCATTER[at["seed"]] + 4 * (at["training"] == "TST")

    write_pages(write_comparison(comparison_study(), folder / "comparison", value))
    write_pages(write_study(table1_study(), folder / "table", table1_outcome))
    pages = {name: (folder / name / "report.html").read_text() for name in ("comparison", "table")}
    return measure(pages, folder / "browser")


@pytest.mark.parametrize("page", ["comparison", "table"])
@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_is_clipped(measured: dict[str, Any], page: str, screen: str) -> None:
    found = measured[f"{page} {screen}"]
    assert not found["scrolls"] and found["outside"] == [] and found["cut"] == []


@pytest.mark.parametrize("page", ["comparison", "table"])
@pytest.mark.parametrize("screen", SCREENS)
def test_first_screen_holds_recommendation_answers_cost_and_figure(
    measured: dict[str, Any], page: str, screen: str
) -> None:
    parts, height = measured[f"{page} {screen}"]["parts"], SCREENS[screen][1]
    assert all(parts.values()) and list(parts) == list(PARTS)
    figure = parts.pop("figure")
    assert max(part["bottom"] for part in parts.values()) <= height
    assert figure["bottom"] <= height if screen == "wide" else figure["top"] <= height - 50
    assert min(part["top"] for part in [figure, *parts.values()]) >= 0


def test_contents_lead_to_the_sections(measured: dict[str, Any]) -> None:
    links = measured["comparison wide"]["links"]
    assert links[:3] == ["Declared claims", "TST minus OST", "The stem and pre-training"]
    assert all(links) and links[-1] == "How to reproduce"
