"""A run does not begin under one version of a stage's numerics and end under another, nor stand in for one of another."""

from collections.abc import Callable
from pathlib import Path

import pytest

import common.training.run as run_module
import recipes.study.plan as plan_module
from common.training.checkpoints import Checkpoints
from common.training.numerics import FIRST, numerics_version
from recipes.stages import resolve_by_config
from recipes.study.plan import make_plan
from recipes.study.study_file import find_study, load_study

Stage = Callable[..., int]


def test_what_has_changed_has_another_version() -> None:
    assert numerics_version("pretrain", {}) == 2
    assert numerics_version("finetune", {"objective": "token_labels"}) == 2
    assert numerics_version("finetune", {}) == numerics_version("finetune", {"objective": "classification"}) == FIRST
    assert numerics_version("linear", {}) == numerics_version("common.evaluation linear", {}) == FIRST


@pytest.mark.parametrize("name", ["pretrain", "finetune", "linear"])
def test_a_run_of_another_version_is_refused_and_left(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "run"
    assert stage(name, out) == 0
    (out / "result.json").unlink()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "numerics_version", lambda stage, config: 7)
        assert stage(name, out) == 2
    said = capsys.readouterr().err
    assert "8 steps were computed by another version of this program" in said and "7 now" in said
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert stage(name, out) == 0


def test_a_checkpoint_that_tells_no_version_is_of_the_first(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = Checkpoints.write

    def untold(self: Checkpoints, step: int, tensors: object, values: dict[str, object], **words: bool) -> None:
        usual(self, step, tensors, {key: value for key, value in values.items() if key != "numerics"}, **words)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoints, "write", untold)
    for name, code in (("finetune", 0), ("pretrain", 2)):
        assert stage(name, tmp_path / name) == 0
        (tmp_path / name / "result.json").unlink()
        assert stage(name, tmp_path / name) == code
    assert "numerics 1 there, 2 now" in capsys.readouterr().err


def test_a_run_of_another_version_is_another_run_of_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what starts from it; the others keep their names."""

    def names() -> set[str]:
        return {run.id for run in make_plan(load_study(find_study("quickstart"), seeds=(0,)), resolve_by_config).runs}

    before = names()
    monkeypatch.setattr(plan_module, "numerics_version", lambda stage, config: FIRST + 2 * (stage == "pretrain"))
    kept = before & names()
    assert kept and all("OST" in name for name in kept) and len(kept) == sum("OST" in name for name in before)
