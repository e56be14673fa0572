"""Tests of numerics versions: a run neither resumes under another version nor replaces a run of another version."""

from collections.abc import Callable
from pathlib import Path

import pytest

import common.training.state as state_module
import recipes.study.plan as plan_module
from common.training.checkpoints import Checkpoints
from common.training.numerics import FIRST, numerics_version
from recipes.stages import resolve_by_config
from recipes.study.plan import make_plan
from recipes.study.study_file import find_study, load_study

Stage = Callable[..., int]


def test_stages_whose_numerics_changed_have_a_higher_version() -> None:
    assert numerics_version("pretrain", {}) == 2
    assert numerics_version("finetune", {"objective": "token_labels"}) == 2
    assert numerics_version("finetune", {}) == numerics_version("finetune", {"objective": "classification"}) == FIRST
    for changed in ({"loss.class_weights": "balanced"}, {"loss.logit_adjustment": 1.0}):
        assert numerics_version("finetune", changed) == 2
        assert numerics_version("finetune", {"objective": "token_labels", **changed}) == 3
        assert numerics_version("finetune", {"augment.label_smoothing": 0.0, **changed}) == FIRST
    assert (
        numerics_version("knn", {"knn.temperature": 0.01}) == numerics_version("probe", {"knn.temperature": 0.01}) == 2
    )
    assert numerics_version("knn", {"knn.temperature": 0.07}) == FIRST
    assert numerics_version("pretrain", {"knn.temperature": 0.01}) == 3
    assert numerics_version("finetune", {"loss.class_weights": "none", "loss.logit_adjustment": 0.0}) == FIRST
    assert numerics_version("linear", {}) == numerics_version("common.evaluation linear", {}) == FIRST


@pytest.mark.parametrize("name", ["pretrain", "finetune", "linear"])
def test_a_run_of_another_version_is_rejected_and_unchanged(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    out = tmp_path / "run"
    assert stage(name, out) == 0
    (out / "result.json").unlink()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(state_module, "numerics_version", lambda stage, config: 7)
        assert stage(name, out) == 2
    error = capsys.readouterr().err
    assert "8 steps were computed by another version of this program" in error and "7 now" in error
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert stage(name, out) == 0


def test_a_checkpoint_without_a_version_is_of_the_first(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = Checkpoints.write

    def write(self: Checkpoints, step: int, tensors: object, values: dict[str, object], **options: bool) -> None:
        values = {key: value for key, value in values.items() if key != "numerics"}
        original(self, step, tensors, values, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Checkpoints, "write", write)
    for name, code in (("finetune", 0), ("pretrain", 2)):
        assert stage(name, tmp_path / name) == 0
        (tmp_path / name / "result.json").unlink()
        assert stage(name, tmp_path / name) == code
    assert "numerics 1 there, 2 now" in capsys.readouterr().err


def test_a_run_of_another_version_is_a_different_run_of_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    """So are the runs initialized from it; the others keep their names."""

    def names() -> set[str]:
        return {run.id for run in make_plan(load_study(find_study("quickstart"), seeds=(0,)), resolve_by_config).runs}

    before = names()
    monkeypatch.setattr(plan_module, "numerics_version", lambda stage, config: FIRST + 2 * (stage == "pretrain"))
    kept = before & names()
    assert kept and all("OST" in name for name in kept) and len(kept) == sum("OST" in name for name in before)
