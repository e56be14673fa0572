"""Baselines of a study that train no network: k-NN and a linear probe on frozen features or raw pixels, for every cell.

Section `baselines` of a study file: {recipe: recipes/digits/probe.yaml}, with keys of that recipe in `set`. With the data, the seed
and the network of a cell's last stage, it plans a run on

- the features that the last stage starts from (`pre-trained`): those of the run that it starts from, of published weights that
  replace that run, or of the weights `init` that a level names; where it starts from any;
- the features of the untrained network (`untrained`, `init=none`), unless the network is that of the weights (`model.name=init`):
  no arm trains that network from scratch;
- the pixels (`pixels`, `features=pixels`), which have no network, so that there is one for each share and seed; of images reduced
  to 32 px, as classifiers of more values would take longer than the networks; not at the image size of such weights, which may be
  many times that of the images.

Their level on the axis `features` is in `PlannedRun.levels`. They are runs of the stage `baselines`, but of no cell. Data and
network are those of the last stage's recipe and settings; the rest is in the recipe of the baselines.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from recipes.study.plan import Cell, Plan, PlannedRun, Resolver, build_run
from recipes.study.specification import FEATURES, PIXELS, UNTRAINED, Axis, Stage, Study

SHARED_KEYS = ("data.", "train.seed")
NETWORK_KEYS = ("model.",)
TRAINING_KEYS = ("model.drop_path",)
"""Keys of the network that only a training takes."""
PIXELS_SIDE = 32
"""Largest side of the images whose pixels are classified."""
OF_INIT = "init"
"""Value of `model.name` that stands for the network of the weights (`common.models.networks.OF_INIT`, which imports torch)."""


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
                run = build_run(stage, {**stage.settings, **settings}, levels, start, resolve, runs)
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
    network = _with_prefix(settings, SHARED_KEYS + NETWORK_KEYS)
    weights = settings.get("init") if start is None else None  # as published weights of a stage are
    if start is not None or weights is not None:
        own = network if weights is None else {**network, "init": weights}
        yield own, {**_levels_of_start(study, last, cell, start), FEATURES: "pre-trained"}, start
    if network.get("model.name") != OF_INIT:
        named = _levels(study, last, cell, NETWORK_KEYS, among=_named_networks)
        yield {**network, "init": None}, {**named, FEATURES: UNTRAINED}, None
        pixels = {**_with_prefix(settings, SHARED_KEYS), **_reduced(settings), "init": None, FEATURES: PIXELS}
        named = _levels(study, last, cell, (), among=_named_networks)
        yield pixels, {**named, FEATURES: PIXELS}, None


def _reduced(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the key of the image size whose pixels are classified; {} for images that are small enough."""
    size = settings.get("data.image_size")
    sides = [size] if isinstance(size, int) else list(size or [0])
    longest = max(sides)
    if longest <= PIXELS_SIDE:
        return {}
    reduced = [max(1, round(side * PIXELS_SIDE / longest)) for side in sides]
    return {"data.image_size": reduced[0] if isinstance(size, int) else reduced}


def _levels_of_start(study: Study, last: Stage, cell: Cell, start: PlannedRun | None) -> dict[str, str]:
    """Return the levels of a cell that distinguish what it starts from: those of the run, and the arm if several have a start."""
    arms = study.arm_axis
    names = list(start.levels) if start is not None else []
    if arms is not None:
        starts = {level: study.start_of(last, {**cell.levels, arms.name: level}) for level in arms.levels}
        given = {level for level, keys in arms.levels.items() if study.keys_of(last, keys).get("init") is not None}
        names += [arms.name] if len(given | {start for start in starts.values() if start}) > 1 else []
    return _levels(study, last, cell, NETWORK_KEYS, names)


def _with_prefix(settings: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings whose keys begin with one of the prefixes."""
    return {key: value for key, value in settings.items() if key.startswith(prefixes) and key not in TRAINING_KEYS}


def _levels(
    study: Study,
    last: Stage,
    cell: Cell,
    prefixes: tuple[str, ...],
    others: Collection[str] = (),
    among: Callable[[Study, Stage, Axis], Axis] = lambda study, last, axis: axis,
) -> dict[str, str]:
    """Return the levels of a cell on the axes that set keys of the data, the seed or `prefixes`, and on the axes `others`.

    `among` restricts an axis to the levels whose keys count.
    """
    return {
        axis.name: cell.levels[axis.name]
        for axis in study.axes
        if axis.name in others
        or _with_prefix(study.keys_of(last, dict.fromkeys(among(study, last, axis).all_keys())), SHARED_KEYS + prefixes)
    }


def _named_networks(study: Study, last: Stage, axis: Axis) -> Axis:
    """Return an axis without the levels whose network is that of the weights."""
    named = {
        level: keys for level, keys in axis.levels.items() if study.keys_of(last, keys).get("model.name") != OF_INIT
    }
    factors = {level: own for level, own in axis.factors.items() if level in named}
    return replace(axis, levels=named, factors=factors)
