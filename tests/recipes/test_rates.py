"""The effective learning rate of every row of every table at every scale, pinned in rates.yaml."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.training.optimizers import peak_lr
from recipes.plan import PlannedRun, make_plan
from recipes.sections import read_yaml
from recipes.stages import load_config, resolve_by_config
from recipes.study import STUDIES, Stage, Study
from recipes.study_file import load_study

PINNED = yaml.safe_load(Path(__file__).with_name("rates.yaml").read_text())
SCALES = {path.stem: read_yaml(path.read_text()).get("scales") or ["own"] for path in sorted(STUDIES.glob("*.yaml"))}


def load(name: str, scale: str) -> Study:
    """Return a study with one seed and every stage trained."""
    path = STUDIES / f"{name}.yaml"
    stages = read_yaml(path.read_text())["stages"]
    trained = tuple(f"{stage}.published=none" for stage, entry in stages.items() if "published" in entry)
    seeds = () if name == "early_conv_complexity" else (0,)
    return load_study(path, trained, None if scale == "own" else scale, seeds)


def printed_rate(study: Study, stage: Stage, levels: dict[str, str]) -> float | str:
    """Return the rate that the study sets in the paper's terms, its draws left out; `own` where it leaves the recipe's."""
    found: dict[str, Any] = study.addressed(stage, stage.settings)
    for axis in study.axes:
        found |= study.addressed(stage, axis.levels[levels[axis.name]])
    return float(found["optim.lr"]) if "optim.lr" in found else "own"


def effective_rate(study: Study, run: PlannedRun, levels: dict[str, str]) -> float | None:
    """Return the peak rate of a run's optimizer at its batch, its draw's factor taken out; none where nothing is trained."""
    config = load_config(run.module, Path(run.recipe), run.overrides)
    if not hasattr(config, "optim"):
        return None
    factor = 1.0
    for axis in study.axes:
        factor *= float(axis.levels[levels[axis.name]].get("optim.lr*", 1.0)) if axis.name == "draw" else 1.0
    return peak_lr(config.optim, config.train.batch_size) / factor


def effective_rates(name: str, scale: str) -> dict[str, dict[float | str, float]]:
    """Return the effective rate by stage and printed rate; fail where two rows of one printed rate differ."""
    study, found = load(name, scale), defaultdict[str, dict[float | str, float]](dict)
    plan = make_plan(study, resolve_by_config)
    runs, stages = {run.id: run for run in plan.runs}, {stage.name: stage for stage in study.stages}
    for cell in plan.cells:
        levels = dict(cell.levels)
        for stage, run in cell.runs.items():
            rate = effective_rate(study, runs[run], levels)
            if rate is not None:
                printed = printed_rate(study, stages[stage], levels)
                assert found[stage].setdefault(printed, rate) == pytest.approx(rate, rel=1e-4), (
                    name,
                    scale,
                    stage,
                    printed,
                )
    return dict(found)


@pytest.mark.parametrize(("name", "scale"), [(name, scale) for name, scales in SCALES.items() for scale in scales])
def test_every_row_trains_at_the_rate_that_is_pinned(name: str, scale: str) -> None:
    found = effective_rates(name, scale)
    wanted = {
        stage: {printed: by_scale[scale] for printed, by_scale in rates.items() if scale in by_scale}
        for stage, rates in PINNED.get(name, {}).items()
    }
    assert found.keys() == wanted.keys()
    for stage, rates in found.items():
        assert rates == pytest.approx(wanted[stage], rel=1e-4), stage


def test_the_papers_own_scale_follows_the_papers_programs() -> None:
    """DeiT: --lr * batch / 512; DINO: lr * batch / 256; VOLO, re-identification and pycls: absolute."""
    factors = {
        "finetune": lambda name: 1.0 if "volo" in name or "early_conv" in name else 1024 / 512,
        "pretrain": lambda name: 512 / 256,
        "reid": lambda name: 1.0,
    }
    checked = 0
    for name, stages in PINNED.items():
        for stage, rates in stages.items():
            for printed, by_scale in rates.items():
                if "imagenet1k" in by_scale and printed != "own":
                    assert by_scale["imagenet1k"] == pytest.approx(factors[stage](name) * printed, rel=1e-4), name
                    checked += 1
    assert checked > 30


def test_every_pinned_row_is_there() -> None:
    assert set(PINNED) == {name for name in SCALES if name != "early_conv_complexity"}
    for name, stages in PINNED.items():
        scales = {scale for rates in stages.values() for by_scale in rates.values() for scale in by_scale}
        assert scales == set(SCALES[name]), name
