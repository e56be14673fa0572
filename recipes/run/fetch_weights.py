"""Weights that runs of a study start from: fetched and verified once, before any run begins.

They replace a stage (`published`), or are the `init` of a recipe, a level or an override. Compute nodes of a cluster often have no
connection, so all files of the hub, those that describe the weights, too, are in its cache before a run is submitted.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from recipes.run.runner import pluralize
from recipes.stages import load_config
from recipes.study.inputs import weights_sha256
from recipes.study.plan import PlannedRun, format_value
from recipes.study.specification import PublishedWeights, Study


def fetch_starts(study: Study, runs: Iterable[PlannedRun]) -> dict[str, dict[str, str]]:
    """Fetch the weights that any of the runs starts from, those of other runs aside; return what `fetch_published` does.

    Raise one UserError, before anything runs, if weights cannot be fetched or do not fit the network of a run.
    """
    runs = list(runs)
    found = fetch_published(study, runs)
    verified = {stage.published.init for stage in study.stages if stage.published is not None}
    for init, starts in _group_by_init(runs).items():
        if init in verified:
            continue
        key = f"{starts[0].stage}: init = {init}"
        _fetch(init, f"{key}: the weights cannot be loaded, and nothing was started.")
        if problems := list(_mismatches(init, starts)):
            raise UserError(
                f"{key}: the weights do not fit the runs that start from them, and nothing was started.\n  "
                + "\n  ".join(problems)
            )
    return found


def _group_by_init(runs: Iterable[PlannedRun]) -> dict[str, list[PlannedRun]]:
    """Return the runs whose recipe names the weights of their network, by these weights."""
    found: dict[str, list[PlannedRun]] = {}
    for run in runs:
        config = load_config(run.module, Path(run.recipe), run.overrides)
        if run.needs is None and hasattr(config, "model") and (init := getattr(config, "init", None)) is not None:
            found.setdefault(init, []).append(run)
    return found


def _fetch(init: str, problem: str) -> None:
    """Fetch weights with the files that describe them; raise UserError that begins with `problem` if they cannot be loaded."""
    from common.models.hub import fetch_descriptions
    from common.models.weight_files import read_weights

    try:
        read_weights(init)
    except UserError as error:
        raise UserError(f"{problem}\n  {error}") from error
    scheme, _, name = init.partition(":")
    if scheme == "hf-hub":
        fetch_descriptions(name, init)  # what cannot be had is reported by the run that lacks it


def fetch_published(study: Study, runs: Iterable[PlannedRun]) -> dict[str, dict[str, str]]:
    """Fetch the published weights that any of the runs starts from; return init, file and sha256 of each stage's weights.

    Raise one UserError, before anything runs, if weights cannot be fetched, have another SHA-256 than the study declares, or do not
    fit the network of a run that starts from them.
    """
    runs, found = list(runs), {}
    for stage in study.stages:
        published = stage.published
        starts = [run for run in runs if published and f"init={format_value(published.init)}" in run.overrides]
        if published is None or not starts:
            continue
        key = f"{stage.name}.published"
        remedy = f"Set {key}=<their file>, or {key}=none to train the stage instead."
        _fetch(
            published.init,
            f"{key}: {published.description} cannot be loaded, and nothing was started. {remedy}",
        )
        found[stage.name] = _check_digest(key, published)
        if problems := list(_mismatches(published.init, starts)):
            raise UserError(
                f"{key}: {published.description} do not fit the runs that start from them, and nothing was started. Set"
                f" {key}=<weights of that network>, or {key}=none to train the stage instead.\n  "
                + "\n  ".join(problems)
            )
    return found


def _check_digest(key: str, published: PublishedWeights) -> dict[str, str]:
    """Return init, file and SHA-256 of fetched weights; raise UserError if the study declares another SHA-256."""
    try:
        file = _weights_file(published.init)
        digest = None if file is None else weights_sha256(file, key)
    except OSError as error:
        raise UserError(
            f"{key}: {error.filename or published.init} cannot be read ({error.strerror or error})."
        ) from error
    if published.sha256 and digest != published.sha256:
        actual = f"{file} has the SHA-256 {digest}" if digest else f"the file of {published.description} was not found"
        raise UserError(
            f"{key} = {published.init}: {actual}, but the study declares {published.sha256}; nothing was started. Replace the file"
            " (delete it from the Hub's cache, and it is fetched again), or correct sha256 in the study file if these weights are"
            " intended."
        )
    return {"init": published.init, "file": str(file or "unknown"), "sha256": digest or "unknown"}


def _weights_file(init: str) -> Path | None:
    """Return the file that weights were read from, local or in the Hub's cache, or None if it is not known."""
    from common.models.hub import cached_weights
    from common.models.weight_files import find_local_weights

    scheme, _, name = init.partition(":")
    if scheme == "hf-hub":
        return cached_weights(name)
    if (local := find_local_weights(init)) is not None:
        return local.absolute()
    import timm

    config = timm.get_pretrained_cfg(name if scheme == "timm" else init)
    return cached_weights(config.hf_hub_id, config.hf_hub_filename) if config and config.hf_hub_id else None


def _mismatches(init: str, runs: Iterable[PlannedRun]) -> Iterator[str]:
    """Yield an error for each distinct network of the runs that cannot load the weights as its stage does."""
    from common.models.init_network import follow_init
    from common.models.networks import build_network
    from common.models.weights import load_init

    networks: dict[Any, list[PlannedRun]] = {}
    for run in runs:
        config = follow_init(load_config(run.module, Path(run.recipe), run.overrides), fetch=False)  # they are fetched
        # Loading skips a classifier with another number of classes, so any number can be used here. Only objectives that are not
        # re-identification train a classifier; evaluations have no objective.
        num_classes = int(getattr(config, "objective", "reid") != "reid")
        networks.setdefault((config.model, config.data.image_size, config.data.channels, num_classes), []).append(run)
    for (model, size, channels, num_classes), same_network in networks.items():
        try:
            network = build_network(model, image_size=size, num_classes=num_classes, in_chans=channels)
            load_init(network, init)
        except UserError as error:
            where = f"{same_network[0].stage} with model.name={model.name} at {size} px"
            yield f"{pluralize(len(same_network), 'run')} of {where}: {error}"


def describe(weights: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a line for each stage's fetched weights (`fetch_published`)."""
    return [f"{stage}.published: {w['init']}, sha256 {w['sha256']} ({w['file']})" for stage, w in weights.items()]
