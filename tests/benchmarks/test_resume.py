"""The comparison of repeated with resumed runs."""

import os
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from forked_runs import start_fork

from benchmarks import resume
from benchmarks.resume import CASES, SMALL, Case, RunFailed, compare, difference
from common.config import load
from finetune.config import FinetuneConfig
from pretrain.config import PretrainConfig

CONFIGS: dict[str, type[PretrainConfig] | type[FinetuneConfig]] = {
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
}


@dataclass
class Forked:
    """A forked run with the methods of `subprocess.Popen` that the benchmark uses."""

    process: ForkServerProcess

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


def start_forked(case: Case, out: Path) -> Forked:
    """Start a run as the benchmark does, without the imports of a new process."""
    recipe = str(resume.RECIPES / f"{case.stage}.yaml")
    return Forked(start_fork(case.stage, [recipe, *SMALL[case.stage], *case.words, f"out={out}"], resume._output(out)))


@pytest.mark.long
def test_a_resumed_run_is_bit_equal_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "_start", start_forked)
    words = ("model.drop_path=0.1", "augment.mixup=0.8", "ema_decay=0.9")
    line, is_wrong = compare("a case", tmp_path, Case("finetune", words))
    assert not is_wrong
    assert line.startswith("a case: repeated bit-equal, killed at step ") and line.endswith("and resumed bit-equal")
    assert int(line.split("step ")[1].split()[0]) >= resume.KILLED_AFTER


def test_the_largest_relative_difference_counts() -> None:
    one = {"equal": torch.ones(3), "count": torch.tensor(5), "weight": torch.tensor([3.0, 4.0])}
    assert difference(one, {name: tensor.clone() for name, tensor in one.items()}) == 0
    other = {**one, "weight": torch.tensor([3.0, 4.5]), "count": torch.tensor(5)}
    assert difference(one, other) == pytest.approx(0.1)
    assert difference({"zero": torch.zeros(2)}, {"zero": torch.ones(2)}) > 1e6
    nan = {"weight": torch.tensor([1.0, float("nan")])}
    assert difference(nan, {"weight": nan["weight"].clone()}) == 0
    assert difference(nan, {"weight": torch.tensor([2.0, float("nan")])}) == float("inf")
    assert difference({"zero": torch.tensor(0.0)}, {"zero": torch.tensor(-0.0)}) > 0
    with pytest.raises(ValueError, match="other tensors"):
        difference(one, {"equal": one["equal"]})


def test_a_run_that_fails_is_reported_and_the_others_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fake(name: str, folder: Path, case: Case) -> tuple[str, bool]:
        if case.stage == "pretrain":
            raise RunFailed("exit code 3\nthe error")
        return f"{name}: repeated", False

    monkeypatch.setattr(resume, "compare", fake)
    assert resume.main(["--out", str(tmp_path / "runs"), "--parallel", "3"]) == 1
    lines = capsys.readouterr().out
    assert [name for name in CASES if f"{name}: " in lines] == list(CASES)
    assert lines.count("FAILED, exit code 3\nthe error") == 3


def test_a_folder_with_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(SystemExit, match="2"):
        resume.main(["--out", str(tmp_path)])
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("name", CASES)
def test_the_keys_of_the_cases_are_those_of_the_stages(name: str) -> None:
    case = CASES[name]
    recipe = resume.RECIPES / f"{case.stage}.yaml"
    config = load(CONFIGS[case.stage], str(recipe), [*SMALL[case.stage], *case.words, "out=unused"])
    assert config.train.epochs * 4 > resume.KILLED_AFTER  # of four steps each
