"""`train.on_crash`: a run that crashed goes back to its last good checkpoint and leaves out the batches up to the crash."""

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
REWIND = ("train.on_crash=rewind", "train.checkpoint_steps=2", "train.max_rewinds=2")
LOOPS = {"pretrain": Pretraining, "finetune": Finetuning}


def poison(patch: pytest.MonkeyPatch, name: str, bad_steps: set[int]) -> None:
    """Make the batches at some steps, counted from 0, images that are no numbers."""
    usual = LOOPS[name]._train_step

    def train_step(self: object, inputs: list[torch.Tensor], step: int) -> object:
        return usual(self, type(inputs)(i * torch.nan if step in bad_steps else i for i in inputs), step)

    patch.setattr(LOOPS[name], "_train_step", train_step)


def steps(out: Path) -> list[int]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]


@pytest.mark.parametrize("name", ["pretrain", "finetune"])
def test_a_bad_batch_is_left_out(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    poison(monkeypatch, name, {4})
    assert stage(name, tmp_path / "run", *REWIND) == 0
    result = read_result(tmp_path / "run")
    assert result["verdict"] != "crash" and result["step"] == 8
    (told,) = result["rewinds"]
    assert (told["from"], told["to"]) == (5, 4) and "nan" in told["reason"]
    assert steps(tmp_path / "run") == [1, 2, 3, 4, 6, 7, 8]


def test_the_last_good_checkpoint_may_be_the_start(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, "finetune", {0, 7})
    assert stage("finetune", tmp_path / "run", *REWIND) == 0
    told = read_result(tmp_path / "run")["rewinds"]
    assert [(each["from"], each["to"]) for each in told] == [(1, 0), (8, 6)]
    assert read_result(tmp_path / "run")["verdict"] == "finished"


def test_a_run_gives_up_after_so_many(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, "finetune", set(range(3, 99)))
    assert stage("finetune", tmp_path / "run", *REWIND) == 0
    result = read_result(tmp_path / "run")
    assert result["verdict"] == "crash" and len(result["rewinds"]) == 2


def test_without_it_a_crash_ends_the_run(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, "finetune", {4})
    assert stage("finetune", tmp_path / "run", "train.checkpoint_steps=2") == 0
    result = read_result(tmp_path / "run")
    assert result["verdict"] == "crash" and result["rewinds"] == []


@pytest.mark.parametrize("killed_at", [5, 7])
def test_a_run_that_went_back_and_is_killed_ends_the_same(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """Killed after the crash is computed and before it is judged, or later on."""
    poison(monkeypatch, "finetune", {4})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert stage("finetune", whole, *REWIND) == 0
    advance = Progress.advance

    def advance_or_die(self: Progress, step: int) -> None:
        advance(self, step)
        if step == killed_at:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progress, "advance", advance_or_die)
        stage("finetune", parts, *REWIND)
    assert stage("finetune", parts, *REWIND) == 0
    assert_same_run(whole, parts)
    assert read_result(whole)["rewinds"] == read_result(parts)["rewinds"]


def test_a_crashed_state_is_never_saved(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is judged a step late; a checkpoint that falls on the crash waits for the verdict."""
    poison(monkeypatch, "finetune", {3})
    assert stage("finetune", tmp_path / "run", "train.checkpoint_steps=2", "train.keep_checkpoints=9") == 0
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-000000002"]
