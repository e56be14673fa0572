"""The simulation of the intervals' coverage."""

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage
from benchmarks.coverage import SCENARIOS, draws, main, simulate


def test_rows_of_a_small_simulation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    assert main(["--draws", "6", "--scenarios", "no effect", "--processes", "1", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert {row["seeds"] for row in rows} == {3, 5, 10}
    cells = next(row for row in rows if row["kind"] == "mean of a cell")
    assert (cells["intervals"], cells["draws"]) == (12, 6)
    assert "no effect, 3 seeds, 359 test images" in capsys.readouterr().out


def test_processes_end_where_sigterm_is_handled() -> None:
    """As in a process that has trained: a handler is inherited by the processes of the simulation."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        assert main(["--draws", "1", "--scenarios", "no effect", "--processes", "2"]) == 0
    finally:
        signal.signal(signal.SIGTERM, before)


def test_draws_have_the_accuracies_of_their_scenario() -> None:
    scenario = SCENARIOS[0]
    studies = [*draws(scenario, 10, 40, np.random.default_rng(0))]
    key = ("patchify", "OST", "0.1")
    assert studies[0][1][key] == pytest.approx(scenario.accuracy["patchify OST"][0])
    means = [study.cells[key].values.mean() for study, _ in studies]
    assert np.mean(means) == pytest.approx(scenario.accuracy["patchify OST"][0], abs=1.0)
    assert all(study.cells[key].values.shape == (10, coverage.NUM_IMAGES) for study, _ in studies)


def test_a_wrong_interval_does_not_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = ("mean of a cell", "patchify/OST/0.1")
    honest = simulate(("calibrated", 5, 60, 0), None)[kind].percent
    monkeypatch.setattr("recipes.reports.statistics.t_quantile", lambda degrees, confidence=0.95: 0.5)
    assert honest > 85 > 60 > simulate(("calibrated", 5, 60, 0), None)[kind].percent


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--scenarios", "real life"])
    assert "real life: no such scenario" in capsys.readouterr().err
