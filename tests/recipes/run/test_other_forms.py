"""Another form of a study in the folder of a finished one: what is said, and what is refused, before the report is replaced."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from recipes_fakes import fake_measure

from recipes.__main__ import main
from recipes.run.engines import LocalSlots
from recipes.study.plan import Resolver

Call = Callable[..., int]
Starts = Callable[..., list[str]]

pytestmark = pytest.mark.usefixtures("without_figures")


@pytest.fixture
def call(slots: Callable[[int], LocalSlots], fake_stage: Starts, echo_config: Resolver) -> Call:
    """Return the command line, which runs the fake stage."""
    return lambda *words: main(
        [str(word) for word in words], resolve=echo_config, engine_builder=lambda options, _: slots(options.jobs or 2)
    )


@pytest.fixture
def finished(call: Call, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return the folder of a finished study of two pre-trainings and four fine-tunings."""
    content: dict[str, Any] = yaml.safe_load(study_file.read_text())
    content["axes"]["stem"]["levels"].pop("patchify")
    content["axes"]["fraction"]["values"] = [1.0]
    content["axes"]["seed"]["values"] = [0, 1]
    content["report"]["compare"].pop("stem")
    study_file.write_text(yaml.safe_dump({**content, "match": "none"}, sort_keys=False))
    assert call("run", study_file, "--out", tmp_path / "out") == 0
    capsys.readouterr()
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("words", "left_out"),
    [(("--seeds", "0"), "3 finished runs are not part"), (("optim.lr=0.1",), "6 finished runs are not part")],
)
def test_finished_runs_that_leave_the_report_are_counted_before_it_is_replaced(
    call: Call,
    study_file: Path,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    left_out: str,
) -> None:
    assert call("run", study_file, *words, "--out", finished) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"{left_out} of this form of the study any more: the report in {finished} is replaced by one without"
    )
    assert "their folders stay in runs/. To keep that report, stop and give --out <another folder>." in printed
    assert len(list((finished / "runs").iterdir())) >= 6


def test_more_seeds_and_the_same_command_say_nothing(
    call: Call, study_file: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", study_file, "--out", finished) == 0
    assert call("run", study_file, "--seeds", "0,1,2", "--out", finished) == 0
    assert "not part" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (
            ("--epochs-factor", "2"),
            "--epochs-factor 2: {out} contains known with epochs_factor = 1 and 6 finished runs",
        ),
        (("match=steps",), "match=steps: {out} contains known with match = none and 6 finished runs"),
    ],
)
def test_other_budgets_do_not_replace_a_report(
    call: Call,
    study_file: Path,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fake_stage: Starts,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    error: str,
) -> None:
    monkeypatch.setattr("recipes.__main__.measure_with", lambda costs: fake_measure(pretrain=1000, image=50))
    before, started = (finished / "study.yaml").read_bytes(), len(fake_stage())
    assert call("run", study_file, *words, "--out", finished) == 2
    message = capsys.readouterr().err
    assert error.format(out=finished) in message and "--out <another folder>" in message
    assert (finished / "study.yaml").read_bytes() == before and len(fake_stage()) == started
    for run in (finished / "runs").iterdir():
        (run / "result.json").unlink()
    assert call("run", study_file, *words, "--out", finished) == 0
