"""Command line of the studies: its output and exit codes."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import UserError
from recipes.__main__ import main
from recipes.run.build_engine import EngineOptions
from recipes.run.engine import Engine
from recipes.run.engines import LocalSlots
from recipes.study.plan import Resolver
from recipes.study.specification import STUDIES, Study

Call = Callable[..., int]


@pytest.fixture
def call(slots: Callable[[int], LocalSlots], fake_stage: Callable[..., list[str]], echo_config: Resolver) -> Call:
    """Return the command line, which runs the fake stage."""

    def build(options: EngineOptions, study: Study) -> Engine:
        return slots(options.jobs or 2)

    return lambda *words: main([str(word) for word in words], resolve=echo_config, engine_builder=build)


def test_list_names_every_study(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list") == 0
    printed = capsys.readouterr().out
    assert all(path.stem in printed for path in STUDIES.glob("*.yaml"))
    assert "quickstart" in printed


def test_plan_prints_every_run_and_starts_none(
    call: Call,
    study_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fake_stage: Callable[..., list[str]],
) -> None:
    assert call("plan", study_file, "--verbose", "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert printed.count("waiting ") == 54
    assert printed.count("accelerate launch -m finetune") == 48
    assert "known: 54 runs for 48 cells; 0 done" in printed
    assert not (tmp_path / "out").exists()
    assert fake_stage() == []


def test_commands_of_a_plan_are_words_of_a_shell(
    call: Call, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    word = "optim.betas=[0.9, 0.99]"
    assert call("plan", study_file, word, "--verbose", "--out", tmp_path / "out") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.lstrip().startswith("accelerate launch")]
    assert len(lines) == 54 and all(word in shlex.split(line) for line in lines)


@pytest.mark.parametrize(("scale", "rate"), [("imagenet1k", "0.002"), ("cifar10", "0.002"), ("digits", "0.004")])
def test_plan_prints_the_peak_learning_rate_of_a_run(scale: str, rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "scaled_relu_table1", "--scale", scale, "--seeds", "0", "--only", "conv_0.001_adamw_5"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("waiting")]
    assert f"  lr {rate}" in line


def test_plan_prints_no_learning_rate_if_nothing_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "early_conv_complexity"]) == 0
    assert "  lr " not in capsys.readouterr().out


def test_run_runs_the_selected_runs_and_writes_the_report(
    call: Call,
    study_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fake_stage: Callable[..., list[str]],
) -> None:
    out = tmp_path / "out"
    assert call("run", study_file, "--out", out, "--only", "conv*fraction0.1-seed0") == 0
    printed = capsys.readouterr().out
    assert "3 runs: 0 done, 3 remaining, 2 at a time" in printed
    assert "3 of 54 runs are done" in printed
    assert f"report: {out / 'report.html'}" in printed
    assert len(fake_stage()) == 3
    assert {path.name for path in out.iterdir()} == {
        "study.yaml", "runs", "report.html", "report.md", "results.csv", "figures",
    }  # fmt: skip
    (out / "report.html").unlink()
    assert call("report", out) == 0
    assert (out / "report.html").is_file()
    assert len(fake_stage()) == 3


def test_a_failed_run_gives_exit_code_1(
    call: Call,
    study_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fake_stage: Callable[..., list[str]],
) -> None:
    fake_stage(OST="fail")
    assert call("run", study_file, "--out", tmp_path / "out", "--only", "conv*fraction0.1-seed0") == 1
    assert "failed: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "quickstrat"), "Did you mean quickstart?"),
        (("plan", "quickstart", "epochs"), "an override is key=value"),
        (("report", "nowhere"), "contains no study.yaml"),
        (("plan", "quickstart", "--only", "mlp"), "--only mlp: matches no run"),
        (
            ("plan", "quickstart", "--tera-macs-per-second", "0"),
            "--tera-macs-per-second 0: must be a finite number above",
        ),
        (
            ("plan", "quickstart", "--tera-macs-per-second", "nan"),
            "--tera-macs-per-second nan: must be a finite number",
        ),
    ],
)
def test_invalid_input_gives_one_message_and_exit_code_2(
    call: Call, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert call(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


def test_an_unknown_recipe_key_is_reported_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "quickstart", "model.stam=conv", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "nothing was started" in error
    assert "model.stam: unknown key. Did you mean model.stem?" in error
    assert not (tmp_path / "out").exists()


def test_jobs_must_be_at_least_one() -> None:
    with pytest.raises(UserError, match="--jobs 0: must be at least 1"):
        EngineOptions(jobs=0).check()


def test_arguments_of_the_launcher_that_no_shell_can_split_are_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "quickstart", "--out", str(tmp_path / "out"), "--accelerate-args", "'--cpu"]) == 2
    assert "--accelerate-args '--cpu: No closing quotation. Close every" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
