"""The averaged network of a whole fine-tuning: what is evaluated, and when it is the weights themselves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import last_weights, read_result

Stage = Callable[..., int]


def averaged(out: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the averaged and the trained tensors of a run's last checkpoint."""
    tensors = last_weights(out)
    return [(tensor, tensors[f"network.{key[8:]}"]) for key, tensor in tensors.items() if key.startswith("average.")]


def test_the_average_is_the_weights_until_the_warm_up_ends(stage: Stage, tmp_path: Path) -> None:
    assert stage("finetune", tmp_path / "ramp", "ema_span=0.5", "optim.warmup_epochs=2") == 0
    assert all(torch.equal(average, weight) for average, weight in averaged(tmp_path / "ramp"))
    assert stage("finetune", tmp_path / "run", "ema_span=0.5", "optim.warmup_epochs=1") == 0
    assert not all(torch.equal(average, weight) for average, weight in averaged(tmp_path / "run"))


def test_another_length_changes_the_average_and_is_refused(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    constant = ("optim.lr=1e-3", "optim.min_lr=1e-3", "ema_span=0.5")
    assert stage("finetune", tmp_path / "run", *constant) == 0
    assert stage("finetune", tmp_path / "run", *constant, "train.epochs=3") == 2
    said = capsys.readouterr().err
    assert "its average momentum follows" in said and "ema_decay instead of ema_span" in said
    constant = (*constant[:2], "ema_decay=0.9")
    assert stage("finetune", tmp_path / "remedy", *constant) == 0
    assert stage("finetune", tmp_path / "remedy", *constant, "train.epochs=3") == 0


def test_two_ways_of_averaging_exclude_each_other(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("finetune", tmp_path / "run", "ema_span=0.5", "ema_decay=0.9") == 2
    assert "ema_span: set, and ema_decay too" in capsys.readouterr().err
    assert stage("finetune", tmp_path / "run", "ema_span=1.5") == 2
    assert "ema_span: 1.5 must lie in (0, 1]" in capsys.readouterr().err


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("ema_span=0.1",), "ema_span = 0.1: no more than one of the run's 8 steps"),
        (("optim.warmup_epochs=2",), "optim.warmup_epochs = 2 is no shorter than train.epochs = 2"),
        (("optim.cooldown_epochs=1",), "leave none of train.epochs = 2 for the cosine"),
        (("ema_span=0.5", "optim.warmup_epochs=0.5", "optim.cooldown_epochs=1"), None),
    ],
)
def test_what_averages_or_schedules_nothing_is_warned_of(
    stage: Stage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    told: str | None,
    dry: tuple[str, ...],
) -> None:
    assert stage("finetune", tmp_path / "run", *words, *dry) == 0
    said = capsys.readouterr()
    assert ("warning" in said.out + said.err) is (told is not None) and (told or "") in said.out + said.err


def test_a_short_run_is_judged_by_weights_that_have_learnt(stage: Stage, tmp_path: Path) -> None:
    """Digits, 35 steps: an average over 7.8% of the run follows the network, a decay of 0.9999 stays where it began."""
    common = (
        "data.images_per_class=none",
        "train.epochs=3",
        "train.batch_size=64",
        "train.evaluate_every=3",
        "model.stem=conv",
    )
    found = {}
    for name, key in (("weights", "ema_decay=none"), ("span", "ema_span=0.078"), ("decay", "ema_decay=0.9999")):
        assert stage("finetune", tmp_path / name, *common, key) == 0
        found[name] = read_result(tmp_path / name)["metrics"]["test_top1"]
    assert found["span"] > found["weights"] - 3 and found["decay"] < found["weights"] - 20
