"""`python -m recipes tune`, and studies with a section `tune` at the command line: choices, their files, and resuming."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from recipes.__main__ import main
from recipes.run.engines import LocalSlots
from recipes.study.choices import read_choices
from recipes.study.plan import Resolver
from recipes.study.stored_plan import read_plan

Call = Callable[..., int]
Starts = Callable[..., list[str]]


@pytest.fixture
def call(slots: Callable[[int], LocalSlots], fake_stage: Starts, echo_config: Resolver) -> Call:
    """Return the command line, which runs the fake stage: its accuracy on validation images is highest at 50 epochs."""
    return lambda *words: main(
        [str(word) for word in words], resolve=echo_config, engine_builder=lambda options, _: slots(options.jobs or 2)
    )


@pytest.fixture
def small_study(study_file: Path) -> Path:
    """Return a study of one stem and share and two reported seeds, unmatched, whose runs have 100 epochs as written."""
    content: dict[str, Any] = yaml.safe_load(study_file.read_text())
    content["axes"]["stem"]["levels"].pop("patchify")
    content["axes"]["fraction"]["values"] = [1.0]
    content["axes"]["seed"]["values"] = [0, 1]
    content["report"]["compare"].pop("stem")
    content |= {"match": "none", "tune": {"seeds": [100], "lengths": [0.25, 0.5, 1.0]}}
    study_file.write_text(yaml.safe_dump(content, sort_keys=False))
    return study_file


def test_run_tunes_first_and_trains_with_the_choices(
    call: Call, small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_stage: Starts
) -> None:
    out = tmp_path / "out"
    assert call("run", small_study, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "tuning first: 7 runs on seed 100 choose the lengths on validation images" in printed
    assert (
        "conv-OST-1: finetune.train.epochs=50" in printed
        and "; converged (-0.5 points from twice the epochs)" in printed
    )
    choices = read_choices(out / "choices.yaml")
    assert choices is not None and {choice.length for choice in choices.choices} == {0.5}
    assert choices.command == f"python -m recipes tune {small_study}"
    plan = read_plan(out)
    assert plan.choices == choices
    assert all("train.epochs=50" in run.overrides for run in plan.runs if run.stage == "finetune")
    tuning = [path.name for path in (out / "tuning" / "runs").iterdir()]
    assert len(tuning) == 7 and not any("seed100" in path.name for path in (out / "runs").iterdir())
    started = len(fake_stage())
    assert call("run", small_study, "--out", out) == 0  # nothing is chosen or run again
    assert "tuning first" not in capsys.readouterr().out
    assert len(fake_stage()) == started == 7 + 2 * 3


def test_a_killed_tuning_resumes(
    call: Call, small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_stage: Starts
) -> None:
    out = tmp_path / "out"
    fake_stage(candidate1="fail")
    assert call("tune", small_study, "--out", out) == 1
    assert "failed: " in capsys.readouterr().out
    assert not (out / "choices.yaml").exists() and not (out / "study.yaml").exists()
    fake_stage()
    assert call("tune", small_study, "--out", out) == 0
    assert (out / "choices.yaml").exists() and not (out / "study.yaml").exists()
    starts = fake_stage()
    assert len(starts) - len(set(starts)) == 2  # only the two runs that failed


def test_twice_the_epochs_run_after_the_choice(
    call: Call, small_study: Path, tmp_path: Path, fake_stage: Starts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_BEST_EPOCHS", "300")
    assert call("tune", small_study, "--out", tmp_path / "out") == 0
    choices = read_choices(tmp_path / "out" / "choices.yaml")
    assert choices is not None
    assert [(choice.length, choice.gain, choice.converged) for choice in choices.choices] == [(1.0, 1.0, False)] * 2
    assert sum("candidate2" in name for name in fake_stage()) == 2


def test_choices_of_another_digest_are_made_again_from_the_runs_that_are_there(
    call: Call, small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_stage: Starts
) -> None:
    out = tmp_path / "out"
    assert call("tune", small_study, "--out", out) == 0
    small_study.write_text(small_study.read_text().replace("- 0.25", "- 0.3"))
    capsys.readouterr()
    started = len(fake_stage())
    assert call("tune", small_study, "--out", out) == 0
    assert "tuning first" in capsys.readouterr().out
    assert len(fake_stage()) - started == 2
    choices = read_choices(out / "choices.yaml")
    assert choices is not None and {each.length for each in choices.choices[0].candidates} == {0.3, 0.5, 1.0}


def test_saved_choices_are_used_in_any_folder_while_their_digest_is_that_of_the_study(
    call: Call, small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_stage: Starts
) -> None:
    assert call("tune", small_study, "--out", tmp_path / "one", "--save") == 0
    saved = small_study.parent / "choices" / "known.yaml"
    assert f"saved: {saved}" in capsys.readouterr().out
    assert read_choices(saved) == read_choices(tmp_path / "one" / "choices.yaml")
    assert call("run", small_study, "--out", tmp_path / "two" / "out") == 0
    assert f"choices of {saved}" in capsys.readouterr().out
    assert not (tmp_path / "two" / "out" / "tuning").exists()
    assert read_plan(tmp_path / "two" / "out").choices == read_choices(saved)
    assert call("run", small_study, "finetune.optim.weight_decay=0.1", "--out", tmp_path / "three" / "out") == 0
    assert "tuning first" in capsys.readouterr().out


def test_plan_prints_the_tuning_runs_apart_while_there_are_no_choices(
    call: Call, small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_stage: Starts
) -> None:
    out = tmp_path / "out"
    assert call("plan", small_study, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "tuning: 7 runs come first; 0 done; pretrain " in printed and "then up to 2 runs of twice" in printed
    assert "known: 6 runs for 4 cells" in printed and "an upper bound" in printed
    assert printed.count("waiting ") == 6 and fake_stage() == [] and not out.exists()
    assert call("tune", small_study, "--out", out) == 0
    capsys.readouterr()
    assert call("plan", small_study, "--out", out, "--verbose") == 0
    printed = capsys.readouterr().out
    assert f"choices of {out / 'choices.yaml'}" in printed and "come first" not in printed
    assert printed.count("train.epochs=50") == 4 + 2  # runs and choices


def test_damaged_choices_are_one_message(
    call: Call, small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "choices.yaml").write_text("[")
    assert call("run", small_study, "--out", tmp_path / "out") == 2
    assert "choices.yaml: does not hold the choices of a study" in capsys.readouterr().err


def test_the_factor_doubles_the_chosen_epochs_and_keeps_the_choices(
    call: Call, small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("tune", small_study, "--out", tmp_path / "one", "--save") == 0
    assert call("run", small_study, "--out", tmp_path / "two" / "out", "--epochs-factor", "2") == 0
    plan = read_plan(tmp_path / "two" / "out")
    epochs = {run.stage: word for run in plan.runs for word in run.overrides if word.startswith("train.epochs")}
    assert epochs == {"pretrain": "train.epochs=200", "finetune": "train.epochs=100"}
    assert plan.study.epochs_factor == plan.study.mapping["epochs_factor"] == 2.0
    assert plan.choices == read_choices(tmp_path / "one" / "choices.yaml")
    capsys.readouterr()
    assert call("plan", small_study, "--epochs-factor", "0") == 2
    assert "epochs_factor: 0.0 must be above 0" in capsys.readouterr().err


def test_a_study_without_the_section_has_nothing_to_tune(
    call: Call, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("tune", study_file, "match=none", "--out", tmp_path / "out") == 2
    assert "study known: has no section tune" in capsys.readouterr().err


def test_a_folder_of_another_study_is_refused_before_it_is_tuned(
    call: Call, small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], fake_stage: Starts
) -> None:
    out = tmp_path / "out"
    assert call("run", small_study, "--out", out) == 0
    started = len(fake_stage())
    small_study.write_text(small_study.read_text().replace("name: known", "name: other").replace("- 0.25", "- 0.3"))
    assert call("run", small_study, "--out", out) == 2
    assert "contains the study known, not other" in capsys.readouterr().err
    assert len(fake_stage()) == started


@pytest.mark.parametrize(
    ("old", "new", "missing"),
    [
        ("      conv:\n", "      convolutional:\n", "no choice for stem=convolutional, training=OST, fraction=1"),
        ("  stem:\n", "  network:\n", "no choice for network=conv, training=OST, fraction=1"),
    ],
)
def test_a_renamed_level_or_axis_has_no_choice_until_it_is_tuned_again(
    call: Call,
    small_study: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fake_stage: Starts,
    old: str,
    new: str,
    missing: str,
) -> None:
    out = tmp_path / "out"
    assert call("tune", small_study, "--out", out, "--save") == 0
    assert old in small_study.read_text()
    small_study.write_text(small_study.read_text().replace(old, new, 1))
    started = len(fake_stage())
    capsys.readouterr()
    for command in ("plan", "run"):
        assert call(command, small_study, "--out", out) == 2
        assert (
            f"{out / 'choices.yaml'}: {missing}, but one for stem=conv, training=OST, fraction=1. Choose again (python -m recipes"
            f" tune {small_study}), take the names of the choices, or set tune=none" in capsys.readouterr().err
        )
    assert len(fake_stage()) == started
    assert call("run", small_study, "tune=none", "--out", tmp_path / "whole" / "out") == 0
    assert call("tune", small_study, "--out", out) == 0
    assert call("run", small_study, "--out", out) == 0
    assert all("train.epochs=50" in run.overrides for run in read_plan(out).runs if run.stage == "finetune")
