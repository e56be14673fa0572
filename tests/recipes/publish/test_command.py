"""`python -m recipes publish`: blocks and figures of documents are those of the stored results by the present code."""

import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published_studies import write_study

from common.errors import UserError
from recipes.__main__ import main
from recipes.publish.command import default_name, refresh, store
from recipes.publish.documents import blocks_in, fill_blocks
from recipes.publish.figure_files import is_current, render_figure
from recipes.publish.planned_now import describe_age, plan_now
from recipes.publish.stored_study import restored
from recipes.reports import statistics
from recipes.reports.figure_style import figure
from recipes.study.specification import REPOSITORY

PAGE = """# Results
<!-- results: known figure:accuracy -->
<!-- end of results -->
Of <!-- results: known size -->no runs<!-- end of results --> the answer is:
<!-- results: known answer -->
by hand
<!-- end of results -->
Prose between them.
<!-- results: known accuracies -->
<!-- end of results -->
"""


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the root of documents with a published study, written once for the module."""
    root = tmp_path_factory.mktemp("published")
    write_study(root / "study")
    (root / "docs").mkdir()
    (root / "docs" / "results.md").write_text(PAGE)
    (root / "README.md").write_text("<!-- results: known figure:accuracy -->\n<!-- end of results -->\n")
    assert main(["publish", str(root / "study"), "--root", str(root)]) == 0
    return root


@pytest.fixture
def root(published: Path, tmp_path: Path) -> Path:
    """Return a copy of the documents with a published study."""
    return Path(shutil.copytree(published, tmp_path / "root"))


def page(root: Path) -> str:
    """Return the text of the page of results."""
    return (root / "docs" / "results.md").read_text()


def test_blocks_hold_the_reports_numbers(root: Path) -> None:
    report = (root / "docs" / "results.md").read_text()
    assert "by hand" not in report and "Prose between them." in report
    assert "Of <!-- results: known size -->30 runs (6 pretrain, 24 finetune), stem (2)" in report
    assert "two-stage training (TST) compared with one-stage training (OST)" in report
    assert "| patchify stem | two-stage training (TST) |" in report
    assert "](figures/known_accuracy.svg)" in report
    assert "](docs/figures/known_accuracy.svg)" in (root / "README.md").read_text()
    assert (root / "docs" / "figures" / "known_accuracy.svg").read_text().startswith("<?xml")


def test_nothing_is_written_where_nothing_differs(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert main(["publish", "--check", "--root", str(root)]) == 0
    assert main(["publish", "--root", str(root)]) == 0
    assert main(["publish", str(root / "study"), "--root", str(root)]) == 0
    assert "written:" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_number_changed_by_hand_is_found_and_mended(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right = page(root)
    (root / "docs" / "results.md").write_text(right.replace("30 runs", "31 runs"))
    assert main(["publish", "--check", "--root", str(root)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "differs: docs/results.md"
    assert "31 runs" in page(root)
    assert main(["publish", "--root", str(root)]) == 0
    assert page(root) == right


def wider(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Make the intervals wider, as a change of the statistics would."""
    original = statistics.t_quantile
    monkeypatch.setattr(statistics, "t_quantile", lambda *arguments: 1.5 * original(*arguments))


def other_word(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Change a stored result."""
    path = root / "docs" / "results" / "known" / "predictions.csv"
    first = next(line for line in path.read_text().splitlines()[1:] if " " in line)
    name, number, right, wrong, column = first.split(",")
    flipped = f"{int(right[0], 16) ^ 8:x}"
    classes = wrong.split()[1:] if int(flipped, 16) & 8 else ["0" if wrong.split()[0] == "1" else "1", *wrong.split()]
    line = ",".join([name, number, flipped + right[1:], " ".join(classes), column])
    path.write_text(path.read_text().replace(first, line))
    runs = path.with_name("runs.csv")
    rows = runs.read_text().splitlines()
    header = rows[0].split(",")
    place = next(number for number, row in enumerate(rows) if row.startswith(f"{name},"))
    entries = rows[place].split(",")
    step = 100 / 1000 if int(flipped, 16) & 8 else -100 / 1000
    entries[header.index("metrics.test_top1")] = repr(float(entries[header.index("metrics.test_top1")]) + step)
    rows[place] = ",".join(entries)
    runs.write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("change", [wider, other_word])
def test_changed_code_or_results_are_found(
    root: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch, Path], None]
) -> None:
    change(monkeypatch, root)
    assert refresh(root, write=False) == ["docs/results.md", "docs/figures/known_accuracy.svg"]
    assert refresh(root, write=True) and refresh(root, write=False) == []


def test_figure_that_draws_the_same_keeps_its_bytes(root: Path) -> None:
    path = root / "docs" / "figures" / "known_accuracy.svg"
    path.write_text(path.read_text().replace("</svg>", "<!-- of another matplotlib --></svg>"))
    assert refresh(root, write=True) == []
    drawn = re.sub(r'<metadata id="drawn">.*?</metadata>', "", path.read_text(), flags=re.DOTALL)
    path.write_text(drawn)
    assert refresh(root, write=True) == ["docs/figures/known_accuracy.svg"]


@pytest.mark.parametrize(
    "change",
    [
        lambda axes: axes.get_lines()[0].set_ydata([1.0, 2.1]),
        lambda axes: axes.get_lines()[0].set_color("#123456"),
        lambda axes: axes.get_lines()[0].set_label("another & <arm>"),
        lambda axes: axes.set_xticks([1.0, 2.0], ["one", "three"]),
        lambda axes: axes.set_ylabel("loss"),
        lambda axes: axes.text(1.0, 1.0, "†"),
        lambda axes: axes.bar([1.0], [2.0]),
        lambda axes: axes.fill_between([1.0, 2.0], [0.0, 0.0], [1.0, 2.0]),
        lambda axes: axes.figure.legend(["arm"]),
    ],
)
def test_every_kind_of_change_of_a_figure_is_found(tmp_path: Path, change: Callable[..., object]) -> None:
    def draw(edit: Callable[..., object]) -> object:
        with figure(4, 3, 1) as (fig, (axes,)):
            axes.plot([1.0, 2.0], [1.0, 2.0], color="#b85c00", label="arm")
            axes.set_xticks([1.0, 2.0], ["one", "two"])
            edit(axes)
        return fig

    path = tmp_path / "figure.svg"
    for first, second in ((lambda axes: None, change), (change, lambda axes: None)):
        path.write_text(render_figure(draw(first)))
        assert is_current(path, draw(first)) and not is_current(path, draw(second))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("<!-- results: known acuracies -->\n<!-- end of results -->", "known acuracies.*Did you mean accuracies"),
        ("<!-- results: know accuracies -->\n<!-- end of results -->", "know accuracies.*Known: known"),
        ("<!-- results: known figure:cots -->\n<!-- end of results -->", "figure:cots.*Did you mean figure:cost"),
        ("<!-- results: known answer -->here<!-- end of results -->", "within a line"),
        ("<!-- results: known answer -->\n", "do not belong together"),
        ("<!-- end of results -->\n", "do not belong together"),
        ("<!-- results: known -->\n<!-- end of results -->", "do not belong together"),
    ],
)
def test_block_that_cannot_be_filled_is_named(
    root: Path, block: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "docs" / "other.md").write_text(block)
    before = page(root).replace("30 runs", "31 runs")
    (root / "docs" / "results.md").write_text(before)
    (root / "docs" / "other.md").rename(root / "docs" / "the_last.md")
    assert main(["publish", "--root", str(root)]) == 2
    error = capsys.readouterr().err
    assert "docs/the_last.md" in error and re.search(message, error)
    assert page(root) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--note", "busy"], "give its folder"),
        (["{root}/study", "--check"], "--check writes nothing"),
        (["{root}/study", "--name", "a b"], "--name a b"),
        (["{root}/nothing"], "contains no study.yaml"),
    ],
)
def test_invalid_arguments_are_named(
    root: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", *(word.format(root=root) for word in words), "--root", str(root)]) == 2
    assert message in capsys.readouterr().err


def test_names_of_stored_studies_differ_by_images_scale_and_length(root: Path) -> None:
    with restored(REPOSITORY / "docs" / "results" / "my_images_photos") as (study, _):
        assert default_name(study.plan.study) == "my_images_photos"
    with restored(REPOSITORY / "docs" / "results" / "quickstart_epochs_x2") as (study, _):
        assert default_name(study.plan.study) == "quickstart_epochs_x2"
    with restored(REPOSITORY / "docs" / "results" / "scaled_relu_table6_digits") as (study, _):
        assert default_name(study.plan.study) == "scaled_relu_table6_digits"
    store(root / "study", root, "mine", "")
    assert (root / "docs" / "results" / "mine" / "runs.csv").exists()


def test_results_of_other_runs_than_the_code_would_start_are_said_to_be_older() -> None:
    with restored(REPOSITORY / "docs" / "results" / "scaled_relu_table6_digits") as (study, _):
        plan = study.plan
    assert {run.id for run in plan_now(plan).runs} == {run.id for run in plan.runs}
    assert describe_age(plan) == ""
    changed = [
        {**vars(run), "id": run.id[:-1] + "x"} if number < 3 else vars(run) for number, run in enumerate(plan.runs)
    ]
    older = type(plan)(plan.study, tuple(type(plan.runs[0])(**run) for run in changed), plan.cells, plan.choices)
    assert describe_age(older) == (
        "These results are older than the code: the study has 27 runs now, of which 3 are not among the 27 stored here."
    )


def test_age_of_results_whose_images_are_elsewhere_is_not_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not here may be a data set of the Hub."""
    asked: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **_: asked.append(words))
    with restored(REPOSITORY / "docs" / "results" / "my_images_photos") as (study, _):
        assert study.plan.study.mapping["set"]["data.source"] == "photos"
        assert describe_age(study.plan) == ""
    assert not asked


def test_age_is_part_of_the_origin(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "docs" / "other.md").write_text("<!-- results: known origin -->\n<!-- end of results -->\n")
    refresh(root, write=True)
    monkeypatch.setattr("recipes.publish.parts.describe_age", lambda plan: "These results are older.")
    assert refresh(root, write=True) == ["docs/other.md"]
    assert "**These results are older.**" in (root / "docs" / "other.md").read_text()


def test_markers_in_code_are_not_blocks() -> None:
    text = "```html\n<!-- results: s p -->\n```\n<!-- results: s p -->\n<!-- end of results -->\n"
    assert blocks_in(text, Path("x.md")) == [("s", "p")]
    filled = fill_blocks(text, Path("x.md"), lambda study, part, document: "new")
    assert filled == "```html\n<!-- results: s p -->\n```\n<!-- results: s p -->\n\nnew\n\n<!-- end of results -->\n"


def test_markers_keep_their_place() -> None:
    text = (
        "a\n<!-- results: s p -->\nold\n<!-- end of results -->\nb <!-- results: s q -->old<!-- end of results --> c\n"
    )
    filled = fill_blocks(text, Path("x.md"), lambda study, part, document: f"{study}/{part}")
    assert filled == (
        "a\n<!-- results: s p -->\n\ns/p\n\n<!-- end of results -->\nb <!-- results: s q -->s/q<!-- end of results --> c\n"
    )
    assert fill_blocks(filled, Path("x.md"), lambda study, part, document: f"{study}/{part}") == filled


def test_overwritten_environment_is_named(root: Path) -> None:
    path = next((root / "study" / "runs").iterdir()) / "environment.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"environment.json: damaged .*Delete this file"):
        store(root / "study", root, None, "")
    assert json.loads((root / "docs" / "results" / "known" / "origin.json").read_text())["format"] == 1
