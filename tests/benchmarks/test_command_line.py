"""Tests of the benchmarks' command line."""

import importlib
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import GROWING, NAMES, WITH_VARIANTS, parse_options


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_is_a_module_with_a_run_function(name: str) -> None:
    module = importlib.import_module(f"benchmarks.{name}")
    assert callable(module.run)
    assert callable(getattr(module, "growth", None)) or name not in GROWING
    assert not ({"VARIANTS", "run"} - vars(module).keys()) or name not in WITH_VARIANTS


def test_help_describes_every_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--help"])
    with pytest.raises(SystemExit):
        parse_options()
    output = capsys.readouterr().out
    assert all(f"  {name} " in output and measures in output for name, (measures, _) in NAMES.items())


@pytest.mark.parametrize(
    "words",
    [
        ["steps"],
        ["data", "--growth"],
        ["data", "--repeats", "0"],
        ["data", "--variant", "reference"],
        ["loop", "--variant", "ours"],
        ["loop", "--variant", "reference", "--growth"],
        ["data", "--setting", "4096"],
        ["loop", "--setting", "32"],
        ["loop", "finetune", "--setting", "4096"],
        ["loop", "--setting", "4096", "--growth"],
    ],
)
def test_invalid_options_are_rejected(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words])
    with pytest.raises(SystemExit, match="2"):
        parse_options()


def test_every_module_of_the_folder_imports_and_has_a_docstring() -> None:
    folder = Path(__file__).resolve().parents[2] / "benchmarks"
    for path in sorted(folder.glob("*.py")):
        if path.stem not in ("__main__", "startup_probe"):  # the second starts a timer
            assert importlib.import_module(f"benchmarks.{path.stem}").__doc__, path.name
