"""The benchmark of duplicates: copies are planted, found and counted per change."""

import json
from pathlib import Path

import pytest

from benchmarks import duplicates
from benchmarks.duplicates import CHANGES, main


def test_planted_copies_are_counted_per_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(duplicates, "SYNTHETIC", (20, 2 * 2 * len(CHANGES)))
    assert main(["--copies", "2", "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert json.loads(capsys.readouterr().out)["recall_percent"] == figures["recall_percent"]
    assert list(figures["recall_percent"]) == list(CHANGES) and figures["copies_per_change"] == 2
    required = [percent for name, percent in figures["recall_percent"].items() if not name.startswith("bonus")]
    assert required == [100.0] * len(required) and figures["alarms"] == figures["control_alarms"] == 0
    assert figures["test_images_without_copy"] == 2 * len(CHANGES)


def test_alarms_are_shown(tmp_path: Path) -> None:
    images = duplicates.make_images(2, 40, 48)
    duplicates.show_alarms([(images[0], images[1])] * 11, tmp_path / "alarms.png")
    assert (tmp_path / "alarms.png").stat().st_size > 1000


def test_too_few_test_images_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(duplicates, "SYNTHETIC", (5, len(CHANGES)))
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert f"{len(CHANGES)} test images are too few" in capsys.readouterr().err
