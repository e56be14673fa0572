"""bf16 where it is slower than fp32 is warned of, with the measured ratio."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from common.training import bf16
from common.training.bf16 import measure_bf16, warn_of_slow_bf16

CPU = torch.device("cpu")


def test_measured_ratio_is_that_of_the_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which each product of fp32 takes 1 s, each of bf16 4 s."""
    ticks = iter(range(10**6))

    def clock(now: list[float] = [0.0]) -> float:  # noqa: B006
        tick = next(ticks)
        now[0] += (1.0, 4.0)[tick // 2 % 2] if tick % 2 else 0.0
        return now[0]

    monkeypatch.setattr(bf16.time, "perf_counter", clock)
    state = torch.get_rng_state()
    assert measure_bf16(CPU) == pytest.approx(0.25)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("ratio", "warned"), [(0.4, True), (0.95, False), (6.0, False)])
def test_slow_bf16_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ratio: float, warned: bool
) -> None:
    monkeypatch.setattr(bf16, "measure_bf16", lambda _: ratio)
    warn_of_slow_bf16(CPU)
    assert ("take 2.5 times as long as in fp32" in caplog.text) is warned
    assert bool(caplog.text) is warned


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_only_runs_in_bf16_measure_it(
    stage: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    AcceleratorState._reset_state(True)  # accelerate keeps the first precision of a process
    found: list[torch.device] = []
    monkeypatch.setattr("common.training.run.warn_of_slow_bf16", found.append)
    assert stage("knn", tmp_path / "run", f"train.precision={precision}") == 0
    assert found == [CPU] * (precision == "bf16")
    AcceleratorState._reset_state(True)
