"""Effective learning rate and warm-up of every row of every table at every scale, compared with rates.yaml and warmups.yaml."""

from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from planned_studies import SCALES, planned

from common.training.optimizers import peak_lr
from recipes.stages import load_config
from recipes.study.plan import Plan, PlannedRun
from recipes.study.specification import Stage, Study

PINNED = yaml.safe_load(Path(__file__).with_name("rates.yaml").read_text())
WARMUPS = yaml.safe_load(Path(__file__).with_name("warmups.yaml").read_text())
STUDIES_AT_SCALES = [(name, scale or "own") for name, scales in SCALES.items() for scale in scales]


def loaded(run: PlannedRun) -> Any:
    """Return the config of a run."""
    return load_config(
        run.module, Path(run.recipe).absolute(), run.overrides
    )  # as in its plan, so that it is loaded once


def full_plan(name: str, scale: str) -> Plan:
    """Return the plan of a study with one seed and every stage trained."""
    return planned(name, None if scale == "own" else scale, every_stage=True)


def paper_settings(study: Study, stage: Stage, levels: dict[str, str]) -> dict[str, Any]:
    """Return the settings of the study, in the paper's terms."""
    settings: dict[str, Any] = study.keys_of(stage, stage.settings)
    for axis in study.axes:
        settings |= study.keys_of(stage, axis.levels[levels[axis.name]])
    return settings


def paper_lr(study: Study, stage: Stage, levels: dict[str, str]) -> float | str:
    """Return the learning rate in the paper's terms, without random search factors; `own` if it is the recipe's."""
    settings = paper_settings(study, stage, levels)
    return float(settings["optim.lr"]) if "optim.lr" in settings else "own"


def paper_warmup(study: Study, stage: Stage, levels: dict[str, str]) -> int | str:
    """Return the warm-up, and the training length if it is set, in the paper's epochs; `own` if it is the recipe's."""
    settings = paper_settings(study, stage, levels)
    warmup = settings.get("optim.warmup_epochs", "own")
    return f"{warmup} of {settings['train.epochs']}" if "train.epochs" in settings else warmup


def effective_lr(study: Study, run: PlannedRun, levels: dict[str, str]) -> float | None:
    """Return a run's peak learning rate at its batch size, without its random search factor; None if nothing is trained."""
    config = loaded(run)
    if not hasattr(config, "optim"):
        return None
    factor = 1.0
    for axis in study.axes:
        factor *= axis.factors[levels[axis.name]].get("optim.lr", 1.0) if axis.name == "draw" else 1.0
    return peak_lr(config.optim, config.train.batch_size) / factor


def effective_lrs(name: str, scale: str) -> dict[str, dict[float | str, float]]:
    """Return the effective learning rate by stage and published one; fail if rows with the same published one differ."""
    plan, found = full_plan(name, scale), defaultdict[str, dict[float | str, float]](dict)
    study = plan.study
    runs, stages = {run.id: run for run in plan.runs}, {stage.name: stage for stage in study.stages}
    for cell in plan.cells:
        levels = dict(cell.levels)
        for stage, run in cell.runs.items():
            lr = effective_lr(study, runs[run], levels)
            if lr is not None:
                published = paper_lr(study, stages[stage], levels)
                assert found[stage].setdefault(published, lr) == pytest.approx(lr, rel=1e-4), (
                    name,
                    scale,
                    stage,
                    published,
                )
    return dict(found)


@cache
def warmup_percentages(name: str, scale: str) -> dict[tuple[str, int | str], list[float]]:
    """Return the warm-up of a study's runs in percent of the run, by the study's recipe and the published warm-up."""
    plan, found = full_plan(name, scale), defaultdict[tuple[str, int | str], list[float]](list)
    study = plan.study
    runs, stages = {run.id: run for run in plan.runs}, {stage.name: stage for stage in study.stages}
    for cell in plan.cells:
        for stage, id_ in cell.runs.items():
            config = loaded(runs[id_])
            if hasattr(config, "optim"):
                key = (
                    str(study.mapping["stages"][stage]["recipe"]),
                    paper_warmup(study, stages[stage], {**cell.levels}),
                )
                found[key].append(100 * config.optim.warmup_epochs / config.train.epochs)
    return dict(found)


@pytest.mark.parametrize(("name", "scale"), STUDIES_AT_SCALES)
def test_the_warm_up_of_every_row_is_the_pinned_fraction_of_its_run(name: str, scale: str) -> None:
    for (recipe, warmup), percentages in warmup_percentages(name, scale).items():
        pinned = [WARMUPS[recipe][warmup][scale]] * len(percentages)
        assert percentages == pytest.approx(pinned, rel=5e-3), (recipe, warmup)


def test_every_pinned_warm_up_belongs_to_a_row() -> None:
    found = {(*key, scale) for name, scale in STUDIES_AT_SCALES for key in warmup_percentages(name, scale)}
    pinned = {(recipe, warmup, scale) for recipe, rows in WARMUPS.items() for warmup in rows for scale in rows[warmup]}
    assert pinned == found


def test_smaller_scales_keep_the_papers_fraction_of_the_warm_up() -> None:
    for recipe, warmups in WARMUPS.items():
        for warmup, by_scale in warmups.items():
            paper = by_scale.get("imagenet1k", by_scale.get("own"))
            assert list(by_scale.values()) == pytest.approx([paper] * len(by_scale), rel=0.25), (recipe, warmup)


@pytest.mark.parametrize("scale", ["imagenet1k", "cifar10", "cifar10_cpu", "digits"])
def test_tables_that_start_from_the_same_pre_training_share_its_run(scale: str) -> None:
    names = ("scaled_relu_table6", "scaled_relu_table7", "scaled_relu_linear_evaluation")
    (one,) = {frozenset(run.digest for run in full_plan(name, scale).runs if run.stage == "pretrain") for name in names}
    assert len(one) == 1 and one < {run.digest for run in full_plan("scaled_relu_table2_dino", scale).runs}


@pytest.mark.parametrize(("name", "scale"), STUDIES_AT_SCALES)
def test_the_learning_rate_of_every_row_is_the_pinned_one(name: str, scale: str) -> None:
    found = effective_lrs(name, scale)
    wanted = {
        stage: {published: by_scale[scale] for published, by_scale in lrs.items() if scale in by_scale}
        for stage, lrs in PINNED.get(name, {}).items()
    }
    assert found.keys() == wanted.keys()
    for stage, lrs in found.items():
        assert lrs == pytest.approx(wanted[stage], rel=1e-4), stage


def test_learning_rates_at_the_papers_scale_follow_the_papers_code() -> None:
    """DeiT: --lr * batch size / 512; DINO: lr * batch size / 256; VOLO, re-identification and pycls: absolute."""
    factors = {
        "finetune": lambda name: 1.0 if "volo" in name or "early_conv" in name else 1024 / 512,
        "imagenet21k": lambda name: 1.0,
        "pretrain": lambda name: 512 / 256,
        "reidentification": lambda name: 1.0,
    }
    checked = 0
    for name, stages in PINNED.items():
        for stage, lrs in stages.items():
            for published, by_scale in lrs.items():
                if "imagenet1k" in by_scale and published != "own":
                    assert by_scale["imagenet1k"] == pytest.approx(factors[stage](name) * published, rel=1e-4), name
                    checked += 1
    assert checked > 30


def test_every_pinned_row_exists() -> None:
    assert set(PINNED) == {name for name in SCALES if name != "early_conv_complexity"}
    for name, stages in PINNED.items():
        scales = {scale for lrs in stages.values() for by_scale in lrs.values() for scale in by_scale}
        assert scales == {scale or "own" for scale in SCALES[name]}, name
