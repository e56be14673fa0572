"""Baselines of a study that train no network: k-NN and a linear probe on frozen features or raw pixels, for every cell.

Section `baselines` of a study file: {recipe: recipes/digits/probe.yaml}. With the data, the seed and the network of a cell's last
stage, it plans a run on

- the features of the run that the last stage starts from (`pre-trained`), where it starts from one;
- the features of the untrained network (`untrained`, `init=none`);
- the pixels (`pixels`, `features=pixels`), which have no network, so that there is one for each share and seed.

Their level on the axis `features` is in `PlannedRun.levels`. They are runs of the stage `baselines`, but of no cell. Data and
network are those of the last stage's recipe and settings; the rest is in the recipe of the baselines.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from recipes.study.plan import Cell, Plan, PlannedRun, Resolver, build_run
from recipes.study.specification import FEATURES, Stage, Study

SHARED_KEYS = ("data.", "train.seed")
NETWORK_KEYS = ("model.",)
TRAINING_KEYS = ("model.drop_path",)
"""Keys of the network that only a training takes."""


def with_baselines(plan: Plan, resolve: Resolver) -> Plan:
    """Return a plan with the runs of its study's baselines after all others; raise one UserError that lists all problems."""
    stage = plan.study.baselines
    if stage is None:
        return plan
    runs: dict[str, PlannedRun] = {run.id: run for run in plan.runs}
    problems: dict[str, None] = {}
    for cell in plan.cells:
        for settings, levels, start in _baselines_of(plan.study, cell, runs, resolve):
            try:
                run = build_run(stage, settings, levels, start, resolve, runs)
                runs[run.id] = run
            except UserError as error:
                problems[str(error)] = None
    if problems:
        raise UserError("\n".join([f"study {plan.study.name}: invalid baselines; nothing was started.", *problems]))
    return replace(plan, runs=tuple(runs.values()))


def _baselines_of(
    study: Study, cell: Cell, runs: Mapping[str, PlannedRun], resolve: Resolver
) -> Iterator[tuple[dict[str, Any], dict[str, str], PlannedRun | None]]:
    """Yield settings, levels and the run that it starts from, of each baseline of a cell."""
    last = study.stages[-1]
    run = runs[cell.runs[last.name]]
    settings = {**resolve(run.module, Path(run.recipe), run.overrides), **study.settings(last, cell.levels)}
    start = runs[run.needs] if run.needs else None
    network, levels = _with_prefix(settings, SHARED_KEYS + NETWORK_KEYS), _levels(study, last, cell, NETWORK_KEYS)
    if start is not None:
        known = _levels(study, last, cell, NETWORK_KEYS, start.levels)
        yield network, {**known, FEATURES: "pre-trained"}, start
    elif (weights := _published(study, last, cell)) is not None:
        yield {**network, "init": weights}, {**levels, FEATURES: "pre-trained"}, None
    yield {**network, "init": None}, {**levels, FEATURES: "untrained"}, None
    pixels = {**_with_prefix(settings, SHARED_KEYS), "init": None, FEATURES: "pixels"}
    yield pixels, {**_levels(study, last, cell, ()), FEATURES: "pixels"}, None


def _published(study: Study, last: Stage, cell: Cell) -> str | None:
    """Return the weights that the last stage of a cell starts from, if they replace a stage."""
    needed = study.start_of(last, cell.levels)
    stage = next((stage for stage in study.stages if stage.name == needed), None)
    return stage.published.init if stage is not None and stage.published is not None else None


def _with_prefix(settings: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings whose keys begin with one of the prefixes."""
    return {key: value for key, value in settings.items() if key.startswith(prefixes) and key not in TRAINING_KEYS}


def _levels(
    study: Study, last: Stage, cell: Cell, prefixes: tuple[str, ...], others: Mapping[str, str] = {}
) -> dict[str, str]:
    """Return the levels of a cell on the axes that set keys of the data, the seed or `prefixes`, and on those of `others`."""
    return {
        axis.name: cell.levels[axis.name]
        for axis in study.axes
        if axis.name in others
        or _with_prefix(study.keys_of(last, dict.fromkeys(axis.all_keys())), SHARED_KEYS + prefixes)
    }
