"""Runs that are killed (SIGKILL) at any moment, again and again: they end bit by bit as the run that nothing happened to."""

import json
from pathlib import Path

import pytest
from conftest import assert_same_run, read_result
from forked_runs import Fault, log, run

KILLED = -9
SAM = (
    "optim.name=sam",
    "model.stem=conv",
    "augment.mixup=0.8",
    "augment.cutmix=1.0",
    "ema_decay=0.9",
    "augment.repeats=2",
)
ADAMW = ("optim.name=adamw", "augment.mixup=0.8", "ema_decay=0.9", "augment.repeats=2", "augment.erasing=0.5")
DINO = ("model.stem=conv", "dino.centering=mean", "dino.freeze_last_layer_epochs=1")
TOKENS = ("objective=token_labels", "model.name=volo_mini", "model.patch_size=2", "model.stem=conv", "optim.name=sam")
COMMON = ("model.drop_path=0.2", "train.log_every=3", "train.checkpoint_steps=2")

IN_STEPS = (Fault("step", 3), Fault("step", 2), Fault("step", 4))
"""Between two checkpoints; with one just written; an epoch further on."""
IN_WRITES = (Fault("half a file", 2), Fault("flush", 1), Fault("flush", 4), Fault("flush", 5), Fault("flush", 7))
"""Half the tensors; none flushed; all but the folder; renamed, the rename not flushed; a second write."""
IN_CLIMBS = (Fault("climbed", 1), Fault("climbed", 4), Fault("half a file", 1))


@pytest.mark.parametrize(
    ("name", "overrides", "processes", "kills"),
    [
        pytest.param("pretrain", DINO, 1, IN_WRITES, id="dino"),
        pytest.param("pretrain", (*DINO, "data.workers=2"), 1, IN_STEPS, id="dino, 2 workers"),
        pytest.param("pretrain", DINO, 2, (*IN_STEPS[:2], IN_WRITES[0]), id="dino, 2 processes"),
        pytest.param("finetune", (*ADAMW, "data.workers=2"), 1, IN_STEPS, id="adamw, 2 workers"),
        pytest.param("finetune", ADAMW, 1, IN_WRITES, id="adamw"),
        pytest.param("finetune", ("optim.name=sgd", "optim.lr=0.01"), 1, (*IN_STEPS, IN_WRITES[0]), id="sgd"),
        pytest.param("finetune", SAM, 1, IN_CLIMBS, id="sam"),
        pytest.param("finetune", TOKENS, 1, IN_CLIMBS, id="token labels"),
        pytest.param("finetune", SAM, 2, (Fault("climbed", 3, rank=1), IN_STEPS[1]), id="sam, 2 processes"),
    ],
)
def test_a_run_that_is_killed_ends_as_the_one_that_is_not(
    tmp_path: Path, name: str, overrides: tuple[str, ...], processes: int, kills: tuple[Fault, ...]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(name, whole, *COMMON, *overrides, processes=processes) == 0, log(whole)
    for kill in kills:
        assert run(name, parts, *COMMON, *overrides, processes=processes, faults=[kill]) == KILLED, log(parts)
        assert not (parts / "result.json").exists()
    assert run(name, parts, *COMMON, *overrides, processes=processes) == 0, log(parts)
    assert_same_run(whole, parts)


def test_a_run_goes_on_with_other_numbers_of_processes_and_the_same_samples(tmp_path: Path) -> None:
    """1, then 2, then 1 process: every sample of every step once, and the losses of one process to rounding."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    overrides = ("train.checkpoint_steps=1", "model.stem=conv", "augment.mixup=0.8", "augment.repeats=2")
    assert run("finetune", whole, *overrides, keys=True) == 0, log(whole)
    for processes, fault in ((1, Fault("step", 3)), (2, Fault("step", 3, what="SIGTERM")), (1, None)):
        code = run("finetune", parts, *overrides, processes=processes, faults=[fault] if fault else [], keys=True)
        assert code == {1: KILLED, 2: 75}[processes] if fault else code == 0, log(parts)
    drawn = [*keys(parts, 0), *keys(parts, 1)]
    assert set(drawn) == set(keys(whole, 0)) and len(set(drawn)) == 8 * 20
    one, other = losses(whole), losses(parts)
    assert len(one) == 8 and other == pytest.approx(one, rel=2e-5, abs=5e-6)
    assert read_result(parts)["metrics"]["test_loss"] == pytest.approx(
        read_result(whole)["metrics"]["test_loss"], rel=1e-3
    )


def keys(out: Path, rank: int) -> list[str]:
    """Return the samples that a process drew, one line each."""
    return out.with_name(f"{out.name}-{rank}.keys").read_text().splitlines()


def losses(out: Path) -> list[float]:
    return [
        line["loss"] for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in line
    ]
