"""What the command line says of the benchmarks is there."""

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import GROWING, NAMES, parse_options


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_is_a_module_that_runs(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert callable(module.run)
    assert callable(getattr(module, "growth", None)) or name not in GROWING


def test_help_tells_what_each_measures(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit):
        parse_options()
    told = capsys.readouterr().out
    assert all(f"  {name} " in told and what in told for name, (what, _) in NAMES.items())


@pytest.mark.parametrize("words", [["steps"], ["data", "--growth"], ["data", "--repeats", "0"]])
def test_what_cannot_be_measured_is_refused(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    with pytest.raises(SystemExit, match="2"):
        parse_options()


def test_every_module_of_the_folder_imports_and_says_what_it_is() -> None:
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    for path in sorted(folder.glob("*.py")):
        if path.stem not in ("__main__", "startup_probe"):  # the second starts a clock
            assert importlib.import_module(f"benchmarks.{path.stem}").__doc__, path.name
