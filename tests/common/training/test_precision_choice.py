"""`train.precision=auto`: the faster precision of the device, chosen once, and then as if the recipe named it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState
from conftest import Killed, assert_same_run
from forked_runs import fork_run, read_log

from common.config import build
from common.training import precision_choice
from common.training.progress import Progress
from common.yaml_text import read_yaml
from common.yaml_words import values_of
from finetune.config import FinetuneConfig

Stage = Callable[..., int]


@pytest.fixture(autouse=True)
def _state() -> Iterator[None]:
    """Reset accelerate's state, which keeps the first precision of a process."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


def measured(monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    """Make the measurement return a ratio."""
    monkeypatch.setattr(precision_choice, "measure_bf16", lambda device: ratio)


def chosen(out: Path) -> str:
    """Return the precision in the resolved recipe of a run."""
    train = values_of(read_yaml((out / "config.yaml").read_text()))["train"]
    return str(train["precision"])


@pytest.mark.parametrize(("ratio", "precision"), [(1.3, "fp32"), (1.5, "bf16")])
def test_the_run_is_that_of_the_precision_chosen(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, precision: str
) -> None:
    measured(monkeypatch, ratio)
    assert stage("finetune", tmp_path / "auto", "train.precision=auto") == 0
    assert chosen(tmp_path / "auto") == precision
    assert json.loads((tmp_path / "auto" / "environment.json").read_text())["chosen_precision"] == precision
    AcceleratorState._reset_state(True)
    assert stage("finetune", tmp_path / "named", f"train.precision={precision}") == 0
    assert_same_run(tmp_path / "named", tmp_path / "auto")


def test_a_run_that_resumes_on_another_machine_keeps_its_precision(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted, resumed = tmp_path / "uninterrupted", tmp_path / "resumed"
    words = ("finetune", resumed, "train.checkpoint_steps=3", "train.precision=auto")
    assert stage("finetune", uninterrupted, "train.checkpoint_steps=3", "train.precision=bf16") == 0
    advance = Progress.advance

    def advance_or_die(self: Progress, step: int) -> None:
        advance(self, step)
        if step == 5:
            raise Killed

    AcceleratorState._reset_state(True)
    measured(monkeypatch, 8.0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progress, "advance", advance_or_die)
        stage(*words)
    AcceleratorState._reset_state(True)
    measured(monkeypatch, 0.3)
    assert stage(*words) == 0
    assert chosen(resumed) == "bf16"
    assert_same_run(uninterrupted, resumed)


@pytest.mark.parametrize("name", ["pretrain", "linear", "knn", "probe", "tokens"])
def test_every_stage_computes_in_it(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    measured(monkeypatch, 2.0)
    assert stage(name, tmp_path / "run", "train.precision=auto") == 0
    assert chosen(tmp_path / "run") == AcceleratorState().mixed_precision == "bf16"


def test_a_process_that_is_not_the_main_one_takes_what_that_one_chose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Group:
        """The main process has chosen bf16."""

        def __init__(self, accelerator: object) -> None:
            pass

        def gather(self, value: str) -> list[str]:
            assert value == ""
            return ["bf16", value]

    monkeypatch.setattr(precision_choice, "ProcessGroup", Group)
    monkeypatch.setattr(precision_choice, "measure_bf16", lambda device: pytest.fail("measured by every process"))
    config = build(FinetuneConfig, {"out": str(tmp_path / "run"), "data": {"source": "digits"}}, source="a test")
    other = SimpleNamespace(is_main_process=False, device=torch.device("cpu"))
    assert precision_choice.choose_precision(config, other) == "bf16"  # type: ignore[arg-type]


def test_all_processes_have_the_same(tmp_path: Path) -> None:
    assert fork_run("finetune", tmp_path / "run", "train.precision=auto", processes=2) == 0
    assert chosen(tmp_path / "run") in ("fp32", "bf16")
    assert "train.precision = auto: " in read_log(tmp_path / "run") and "auto" not in read_log(tmp_path / "run", rank=1)
