"""Runs killed by SIGKILL at any moment, repeatedly: their result is bit-identical to the uninterrupted run."""

import json
from pathlib import Path

import pytest
from conftest import assert_same_run, read_result
from forked_runs import Fault, fork_run, read_log

pytestmark = pytest.mark.long

KILLED = -9
SAM = (
    "optim.name=sam",
    "model.stem=conv",
    "augment.mixup=0.8",
    "augment.cutmix=1.0",
    "ema_decay=0.9",
    "augment.aug_repeats=2",
)
ADAMW = (
    "optim.name=adamw",
    "augment.mixup=0.8",
    "ema_decay=0.9",
    "augment.aug_repeats=2",
    "augment.random_erasing_prob=0.5",
)
DINO = ("model.stem=conv", "dino.centering=mean", "dino.freeze_last_layer_epochs=1")
TOKENS = ("objective=token_labels", "model.name=volo_mini", "model.patch_size=2", "model.stem=conv", "optim.name=sam")
COMMON = ("model.drop_path=0.2", "train.log_every=3", "train.checkpoint_steps=2")

IN_STEPS = (Fault("step", 3), Fault("step", 2), Fault("step", 4))
"""Between two checkpoints; right after a checkpoint; one epoch later."""
IN_WRITES = (Fault("half a file", 2), Fault("flush", 1), Fault("flush", 4), Fault("flush", 5), Fault("flush", 7))
"""Half of the tensors written; nothing synced; all but the folder synced; renamed, the rename not synced; a second write."""
IN_ASCENT_STEPS = (Fault("perturbed", 1), Fault("perturbed", 4), Fault("half a file", 1))


@pytest.mark.parametrize(
    ("name", "overrides", "processes", "kills"),
    [
        pytest.param("pretrain", DINO, 1, IN_WRITES, id="dino"),
        pytest.param("pretrain", (*DINO, "data.workers=2"), 1, IN_STEPS, id="dino, 2 workers"),
        pytest.param("pretrain", DINO, 2, (*IN_STEPS[:2], IN_WRITES[0]), id="dino, 2 processes"),
        pytest.param("finetune", (*ADAMW, "data.workers=2"), 1, IN_STEPS, id="adamw, 2 workers"),
        pytest.param("finetune", ADAMW, 1, IN_WRITES, id="adamw"),
        pytest.param("finetune", ("optim.name=sgd", "optim.lr=0.01"), 1, (*IN_STEPS, IN_WRITES[0]), id="sgd"),
        pytest.param("finetune", SAM, 1, IN_ASCENT_STEPS, id="sam"),
        pytest.param("finetune", TOKENS, 1, IN_ASCENT_STEPS, id="token labels"),
        pytest.param("finetune", SAM, 2, (Fault("perturbed", 3, rank=1), IN_STEPS[1]), id="sam, 2 processes"),
    ],
)
def test_repeatedly_killed_run_matches_the_uninterrupted_run(
    tmp_path: Path, name: str, overrides: tuple[str, ...], processes: int, kills: tuple[Fault, ...]
) -> None:
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    assert fork_run(name, uninterrupted, *COMMON, *overrides, processes=processes) == 0, read_log(uninterrupted)
    for kill in kills:
        assert fork_run(name, resumed, *COMMON, *overrides, processes=processes, faults=[kill]) == KILLED, read_log(
            resumed
        )
        assert not (resumed / "result.json").exists()
    assert fork_run(name, resumed, *COMMON, *overrides, processes=processes) == 0, read_log(resumed)
    assert_same_run(uninterrupted, resumed)


def test_run_resumes_with_another_number_of_processes_and_the_same_samples(tmp_path: Path) -> None:
    """1, then 2, then 1 process: every sample of every step once, and the losses of one process up to rounding."""
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    overrides = ("train.checkpoint_steps=1", "model.stem=conv", "augment.mixup=0.8", "augment.aug_repeats=2")
    assert fork_run("finetune", uninterrupted, *overrides, record_samples=True) == 0, read_log(uninterrupted)
    for processes, fault in ((1, Fault("step", 3)), (2, Fault("step", 3, what="SIGTERM")), (1, None)):
        code = fork_run(
            "finetune", resumed, *overrides, processes=processes, faults=[fault] if fault else [], record_samples=True
        )
        assert code == {1: KILLED, 2: 75}[processes] if fault else code == 0, read_log(resumed)
    drawn = [*samples(resumed, 0), *samples(resumed, 1)]
    assert set(drawn) == set(samples(uninterrupted, 0)) and len(set(drawn)) == 8 * 20
    one, other = losses(uninterrupted), losses(resumed)
    assert len(one) == 8 and other == pytest.approx(one, rel=2e-5, abs=5e-6)
    assert read_result(resumed)["metrics"]["test_loss"] == pytest.approx(
        read_result(uninterrupted)["metrics"]["test_loss"], rel=1e-3
    )


def samples(out: Path, rank: int) -> list[str]:
    """Return the samples drawn by a process, one line each."""
    return out.with_name(f"{out.name}-{rank}.samples").read_text().splitlines()


def losses(out: Path) -> list[float]:
    return [
        line["loss"] for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in line
    ]
