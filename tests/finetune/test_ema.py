"""The EMA of the weights in a fine-tuning run: when it equals the weights, and what is evaluated."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import last_weights, read_result

Stage = Callable[..., int]


def ema_and_weights(out: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return (EMA tensor, trained tensor) pairs of a run's last checkpoint."""
    tensors = last_weights(out)
    return [(tensor, tensors[f"network.{key[8:]}"]) for key, tensor in tensors.items() if key.startswith("average.")]


def test_ema_equals_the_weights_during_warmup(stage: Stage, tmp_path: Path) -> None:
    assert stage("finetune", tmp_path / "ramp", "ema_span=0.5", "optim.warmup_epochs=2") == 0
    assert all(torch.equal(average, weight) for average, weight in ema_and_weights(tmp_path / "ramp"))
    assert stage("finetune", tmp_path / "run", "ema_span=0.5", "optim.warmup_epochs=1") == 0
    assert not all(torch.equal(average, weight) for average, weight in ema_and_weights(tmp_path / "run"))


def test_extending_a_run_with_ema_span_is_refused(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    constant = ("optim.lr=1e-3", "optim.min_lr=1e-3", "ema_span=0.5")
    assert stage("finetune", tmp_path / "run", *constant) == 0
    assert stage("finetune", tmp_path / "run", *constant, "train.epochs=3") == 2
    error = capsys.readouterr().err
    assert "its average momentum is a schedule" in error and "ema_decay instead of ema_span" in error
    constant = (*constant[:2], "ema_decay=0.9")
    assert stage("finetune", tmp_path / "remedy", *constant) == 0
    assert stage("finetune", tmp_path / "remedy", *constant, "train.epochs=3") == 0


def test_ema_decay_and_ema_span_exclude_each_other(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("finetune", tmp_path / "run", "ema_span=0.5", "ema_decay=0.9") == 2
    assert "ema_span: set, and ema_decay too" in capsys.readouterr().err
    assert stage("finetune", tmp_path / "run", "ema_span=1.5") == 2
    assert "ema_span: 1.5 must lie in (0, 1]" in capsys.readouterr().err


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("overrides", "warning"),
    [
        (("ema_span=0.1",), "ema_span = 0.1: at most one of the run's 8 steps"),
        (("ema_decay=0.99",), "ema_decay = 0.99 averages over 100 steps, but the run has 8: 92% of the average"),
        (("ema_decay=0.4",), None),
        (("optim.warmup_epochs=2",), "optim.warmup_epochs = 2 is not less than train.epochs = 2"),
        (("optim.cooldown_epochs=1",), "leave none of train.epochs = 2 for the cosine"),
        (("ema_span=0.5", "optim.warmup_epochs=0.5", "optim.cooldown_epochs=1"), None),
    ],
)
def test_settings_without_effect_are_warned_about(
    stage: Stage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: tuple[str, ...],
    warning: str | None,
    dry: tuple[str, ...],
) -> None:
    assert stage("finetune", tmp_path / "run", *overrides, *dry) == 0
    captured = capsys.readouterr()
    output = captured.out + captured.err
    assert ("warning" in output) is (warning is not None) and (warning or "") in output


def test_ema_of_a_short_run_has_converged(stage: Stage, tmp_path: Path) -> None:
    """Digits, 35 steps: an EMA over 7.8% of the run follows the weights, a decay of 0.9999 stays at the initialization."""
    common = (
        "data.images_per_class=none",
        "train.epochs=3",
        "train.batch_size=64",
        "train.evaluate_every=3",
        "model.stem=conv",
    )
    top1 = {}
    for name, key in (("weights", "ema_decay=none"), ("span", "ema_span=0.078"), ("decay", "ema_decay=0.9999")):
        assert stage("finetune", tmp_path / name, *common, key) == 0
        top1[name] = read_result(tmp_path / name)["metrics"]["test_top1"]
    assert top1["span"] > top1["weights"] - 3 and top1["decay"] < top1["weights"] - 20
