"""The effective learning rate and warm-up of every row of every table at every scale, pinned in rates.yaml and warmups.yaml."""

from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.training.optimizers import peak_lr
from recipes.stages import load_config, resolve_by_config
from recipes.study.plan import Plan, PlannedRun, make_plan
from recipes.study.sections import read_yaml
from recipes.study.specification import STUDIES, Stage, Study
from recipes.study.study_file import load_study

PINNED = yaml.safe_load(Path(__file__).with_name("rates.yaml").read_text())
WARMUPS = yaml.safe_load(Path(__file__).with_name("warmups.yaml").read_text())
SCALES = {path.stem: read_yaml(path.read_text()).get("scales") or ["own"] for path in sorted(STUDIES.glob("*.yaml"))}
STUDIES_AT_SCALES = [(name, scale) for name, scales in SCALES.items() for scale in scales]


def load(name: str, scale: str) -> Study:
    """Return a study with one seed and every stage trained."""
    path = STUDIES / f"{name}.yaml"
    stages = read_yaml(path.read_text())["stages"]
    trained = tuple(f"{stage}.published=none" for stage, entry in stages.items() if "published" in entry)
    seeds = () if name == "early_conv_complexity" else (0,)
    return load_study(path, trained, None if scale == "own" else scale, seeds)


@cache
def planned(name: str, scale: str) -> Plan:
    """Return the plan of a study with one seed and every stage trained."""
    return make_plan(load(name, scale), resolve_by_config)


def printed(study: Study, stage: Stage, levels: dict[str, str]) -> dict[str, Any]:
    """Return what the study sets in the paper's terms."""
    found: dict[str, Any] = study.addressed(stage, stage.settings)
    for axis in study.axes:
        found |= study.addressed(stage, axis.levels[levels[axis.name]])
    return found


def printed_rate(study: Study, stage: Stage, levels: dict[str, str]) -> float | str:
    """Return the rate that the study sets in the paper's terms, its draws left out; `own` where it leaves the recipe's."""
    found = printed(study, stage, levels)
    return float(found["optim.lr"]) if "optim.lr" in found else "own"


def printed_warmup(study: Study, stage: Stage, levels: dict[str, str]) -> int | str:
    """Return the warm-up, and the length where it is set, in epochs in the paper's terms; `own` where it is the recipe's."""
    found = printed(study, stage, levels)
    warmup = found.get("optim.warmup_epochs", "own")
    return f"{warmup} of {found['train.epochs']}" if "train.epochs" in found else warmup


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
    plan, found = planned(name, scale), defaultdict[str, dict[float | str, float]](dict)
    study = plan.study
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


def warmup_shares(name: str, scale: str) -> dict[tuple[str, int | str], list[float]]:
    """Return the warm-up of a study's runs in percent of each run, by the recipe it names and the warm-up it prints."""
    plan, found = planned(name, scale), defaultdict[tuple[str, int | str], list[float]](list)
    study = plan.study
    runs, stages = {run.id: run for run in plan.runs}, {stage.name: stage for stage in study.stages}
    for cell in plan.cells:
        for stage, id_ in cell.runs.items():
            config = load_config(runs[id_].module, Path(runs[id_].recipe), runs[id_].overrides)
            if hasattr(config, "optim"):
                key = (
                    str(study.mapping["stages"][stage]["recipe"]),
                    printed_warmup(study, stages[stage], {**cell.levels}),
                )
                found[key].append(100 * config.optim.warmup_epochs / config.train.epochs)
    return dict(found)


@pytest.mark.parametrize(("name", "scale"), STUDIES_AT_SCALES)
def test_every_row_warms_up_for_the_share_of_the_run_that_is_pinned(name: str, scale: str) -> None:
    for (recipe, warmup), shares in warmup_shares(name, scale).items():
        assert shares == pytest.approx([WARMUPS[recipe][warmup][scale]] * len(shares), rel=5e-3), (recipe, warmup)


def test_every_pinned_warm_up_is_that_of_a_row() -> None:
    found = {(*key, scale) for name, scale in STUDIES_AT_SCALES for key in warmup_shares(name, scale)}
    pinned = {(recipe, warmup, scale) for recipe, rows in WARMUPS.items() for warmup in rows for scale in rows[warmup]}
    assert pinned == found


def test_smaller_scales_keep_the_papers_share_of_the_warm_up() -> None:
    for recipe, warmups in WARMUPS.items():
        for warmup, by_scale in warmups.items():
            paper = by_scale.get("imagenet1k", by_scale.get("own"))
            assert list(by_scale.values()) == pytest.approx([paper] * len(by_scale), rel=0.25), (recipe, warmup)


@pytest.mark.parametrize("scale", ["imagenet1k", "cifar10", "cifar10_cpu", "digits"])
def test_tables_that_start_from_the_same_pre_training_share_it(scale: str) -> None:
    names = ("scaled_relu_table6", "scaled_relu_table7", "scaled_relu_linear_evaluation")
    (one,) = {frozenset(run.digest for run in planned(name, scale).runs if run.stage == "pretrain") for name in names}
    assert len(one) == 1 and one < {run.digest for run in planned("scaled_relu_table2_dino", scale).runs}


@pytest.mark.parametrize(("name", "scale"), STUDIES_AT_SCALES)
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
