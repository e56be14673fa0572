"""The training loop: steps, evaluations, checkpoints and stops, with a stage that only counts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from common.training import loop as loop_module
from common.training.config import TrainConfig
from common.training.loop import Loop
from common.training.status import DivergenceKind, RunOutcome, RunStatus

STEPS_PER_EPOCH = 4
ZERO = torch.zeros(())


class Stub:
    """A run, its processes, signals and files, as far as the loop uses them; one process."""

    def __init__(self, folder: Path) -> None:
        self.device, self.rank, self.is_main, self.folder, self.stage = torch.device("cpu"), 0, True, folder, "stage"
        self.config, self.has_log_error = TrainConfig(), False
        self.accelerator = SimpleNamespace(scaler=None)
        self.signals = SimpleNamespace(reason=None)
        self.process_group = SimpleNamespace(any=lambda *flags: flags)

    def interrupted(self) -> RunOutcome:
        return RunOutcome(RunStatus.INTERRUPTED, "a signal")


class Batches:
    """Batches that know their position: (epoch, step of the epoch)."""

    sampler = SimpleNamespace(steps_per_epoch=STEPS_PER_EPOCH)
    start = (0, 0)

    def set_epoch(self, epoch: int, first_step: int = 0) -> None:
        self.start = epoch, first_step

    def __iter__(self) -> Iterator[Any]:
        epoch, first = self.start
        for step in range(first, STEPS_PER_EPOCH):
            batch = SimpleNamespace(position=(epoch, step), to=lambda device: None)
            batch.to = lambda device, batch=batch: batch
            yield batch


class Monitor:
    """Remembers the steps it averaged."""

    def __init__(self) -> None:
        self.added: list[tuple[int, int, bool]] = []

    def add(self, values: Any, *, step: int, epoch: int, last: bool) -> None:
        self.added.append((step, epoch, last))

    def summary(self) -> str:
        return ""


class Watch:
    """Reports the divergences it is given, each once."""

    def __init__(self, divergences: dict[int, RunOutcome]) -> None:
        self.divergences = divergences

    def update(self, step: int, loss: Any, skipped: Any) -> RunOutcome | None:
        return self.divergences.pop(step, None)

    def flush(self) -> RunOutcome | None:
        return None

    def finalize(self, step: int) -> RunOutcome | None:
        return None


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loop]:
    """Return what builds a loop whose checkpoints are the list `saved` of steps."""

    def build(divergences: dict[int, RunOutcome] | None = None, **train: Any) -> Loop:
        monkeypatch.setattr(
            loop_module, "Progress", lambda *_: SimpleNamespace(advance=lambda step: None, describe=lambda text: None)
        )
        corrupt = SimpleNamespace(watch=iter, summary=dict)
        batches = Batches()
        loop = Loop(
            Stub(tmp_path),  # type: ignore[arg-type]
            TrainConfig(epochs=3, **train),
            batches,  # type: ignore[arg-type]
            batches,
            {},
            torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0),
            monitor=Monitor(),  # type: ignore[arg-type]
            watch=Watch(divergences or {}),  # type: ignore[arg-type]
            corrupt=corrupt,  # type: ignore[arg-type]
        )
        saved: list[int] = []
        monkeypatch.setattr(loop.state, "save", lambda step, is_kept=False: saved.append(step))
        loop.saved = saved  # type: ignore[attr-defined]
        return loop

    return build


def train(loop: Loop, *, every: int = 1) -> tuple[list[tuple[int, Any]], list[int]]:
    """Take every step; return the steps with their batches, and the epochs after which to evaluate."""
    steps, evaluated = [], []
    for step, batch in loop:
        steps.append((step, batch.position))
        loop.report(ZERO, ZERO)
        if loop.is_evaluation_due(every):
            evaluated.append(loop.epoch)
    return steps, evaluated


def test_each_step_is_taken_once_with_its_batch(build: Callable[..., Loop]) -> None:
    loop = build()
    steps, evaluated = train(loop)
    assert steps == [(step, divmod(step, STEPS_PER_EPOCH)) for step in range(12)] and evaluated == [1, 2, 3]
    assert loop.step == 12 and loop.outcome is None
    assert loop.monitor.added == [(s + 1, s // STEPS_PER_EPOCH, s % STEPS_PER_EPOCH == 3) for s in range(12)]


def test_a_resumed_run_takes_the_remaining_steps(build: Callable[..., Loop]) -> None:
    loop = build()
    loop.step = 6
    steps, evaluated = train(loop)
    assert steps == [(step, divmod(step, STEPS_PER_EPOCH)) for step in range(6, 12)] and evaluated == [2, 3]


def test_the_last_epoch_is_always_evaluated(build: Callable[..., Loop]) -> None:
    assert train(build(), every=2)[1] == [2, 3]


def test_checkpoints_come_by_steps_and_by_epochs(build: Callable[..., Loop]) -> None:
    loop = build(checkpoint_steps=3, keep_every_epochs=2)
    train(loop)
    assert loop.saved == [3, 6, 8, 9, 12]


def test_a_signal_saves_after_the_step_and_ends(build: Callable[..., Loop]) -> None:
    loop = build()
    for step, _ in loop:
        if step == 5:
            loop.run.signals.reason = "SIGTERM"
        loop.report(ZERO, ZERO)
    assert loop.step == 6 and loop.saved == [6]
    assert loop.outcome is not None and loop.outcome.status is RunStatus.INTERRUPTED


def test_a_divergence_ends_the_loop_without_a_checkpoint_or_an_evaluation(build: Callable[..., Loop]) -> None:
    diverged = RunOutcome(RunStatus.DIVERGED, "nan", kind=DivergenceKind.NON_FINITE_LOSS, step=8)
    loop = build({8: diverged})
    steps, evaluated = train(loop)
    assert len(steps) == 8 and evaluated == [1] and loop.saved == [] and loop.outcome is diverged


def test_a_rewind_resumes_at_the_step_of_the_divergence(build: Callable[..., Loop], monkeypatch: Any) -> None:
    """The divergence of step 6 is detected at step 7: training resumes at step 6, and saves there."""
    diverged = RunOutcome(RunStatus.DIVERGED, "nan", kind=DivergenceKind.NON_FINITE_LOSS, step=6)
    loop = build({7: diverged}, on_divergence="rewind")
    monkeypatch.setattr(loop.state, "rewind", lambda outcome, step: True)
    steps, evaluated = train(loop)
    assert [step for step, _ in steps] == [*range(7), *range(6, 12)] and evaluated == [1, 2, 3]
    assert loop.saved == [0, 6] and loop.outcome is None
