"""`train.on_divergence`: a diverged run rewinds to its last good checkpoint and skips the batches up to the divergence."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Killed, assert_same_run, read_result

from common.training.progress import Progress
from finetune.train import Finetuning
from pretrain.train import Pretraining

Stage = Callable[..., int]
REWIND = ("train.on_divergence=rewind", "train.checkpoint_steps=2", "train.max_rewinds=2")
LOOPS = {"pretrain": Pretraining, "finetune": Finetuning}


def poison(patch: pytest.MonkeyPatch, name: str, bad_steps: set[int]) -> None:
    """Replace the images of the batches at some steps, counted from 0, by NaN."""
    original = LOOPS[name]._train_step

    def train_step(self: object, inputs: list[torch.Tensor], step: int) -> object:
        return original(self, type(inputs)(i * torch.nan if step in bad_steps else i for i in inputs), step)

    patch.setattr(LOOPS[name], "_train_step", train_step)


def steps(out: Path) -> list[int]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_diverging_batch_is_skipped(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    poison(monkeypatch, name, {4})
    assert stage(name, tmp_path / "run", *REWIND) == 0
    result = read_result(tmp_path / "run")
    assert result["status"] != "diverged" and result["step"] == 8
    (rewind,) = result["rewinds"]
    assert (rewind["from"], rewind["to"]) == (5, 4) and "nan" in rewind["reason"]
    assert steps(tmp_path / "run") == [1, 2, 3, 4, 6, 7, 8]


def test_rewind_can_return_to_the_initial_state(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, "finetune", {0, 7})
    assert stage("finetune", tmp_path / "run", *REWIND) == 0
    rewinds = read_result(tmp_path / "run")["rewinds"]
    assert [(rewind["from"], rewind["to"]) for rewind in rewinds] == [(1, 0), (8, 6)]
    assert read_result(tmp_path / "run")["status"] == "finished"


def test_run_ends_after_max_rewinds(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, "finetune", set(range(3, 99)))
    assert stage("finetune", tmp_path / "run", *REWIND) == 0
    result = read_result(tmp_path / "run")
    assert result["status"] == "diverged" and len(result["rewinds"]) == 2


def test_divergence_ends_the_run_by_default(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, "finetune", {4})
    assert stage("finetune", tmp_path / "run", "train.checkpoint_steps=2") == 0
    result = read_result(tmp_path / "run")
    assert result["status"] == "diverged" and result["rewinds"] == []


@pytest.mark.parametrize("killed_at", [5, 7])
def test_rewound_run_that_is_killed_ends_the_same(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """Killed after the diverged step and before it is detected, or later."""
    poison(monkeypatch, "finetune", {4})
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    assert stage("finetune", uninterrupted, *REWIND) == 0
    advance = Progress.advance

    def advance_or_die(self: Progress, step: int) -> None:
        advance(self, step)
        if step == killed_at:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progress, "advance", advance_or_die)
        stage("finetune", resumed, *REWIND)
    assert stage("finetune", resumed, *REWIND) == 0
    assert_same_run(uninterrupted, resumed)
    assert read_result(uninterrupted)["rewinds"] == read_result(resumed)["rewinds"]


def test_run_killed_after_its_initial_checkpoint_evaluates_the_untrained_network_once(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    assert stage("pretrain", uninterrupted, *REWIND) == 0

    def die(self: Progress, step: int) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progress, "advance", die)
        stage("pretrain", resumed, *REWIND)
    assert [path.name for path in (resumed / "checkpoints").iterdir()] == ["step-000000000"]
    assert stage("pretrain", resumed, *REWIND) == 0
    assert_same_run(uninterrupted, resumed)


def test_diverged_state_is_never_saved(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Divergence is detected one step late; a checkpoint due at the diverged step waits for the detection."""
    poison(monkeypatch, "finetune", {3})
    assert stage("finetune", tmp_path / "run", "train.checkpoint_steps=2", "train.keep_checkpoints=9") == 0
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000002"]
