"""Published weights that replace a stage: fetched and verified once, before any run that starts from them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from recipes.run.runner import pluralize
from recipes.stages import load_config
from recipes.study.inputs import weights_sha256
from recipes.study.plan import PlannedRun, format_value
from recipes.study.specification import PublishedWeights, Study


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
        from common.models.weight_files import read_weights

        key = f"{stage.name}.published"
        try:
            read_weights(published.init)
        except UserError as error:
            raise UserError(
                f"{key}: {published.description} cannot be loaded, and nothing was started. Set"
                f" {key}=<their file>, or {key}=none to train the stage instead.\n  {error}"
            ) from error
        found[stage.name] = _check_digest(key, published)
        if problems := list(_mismatches(published, starts)):
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


def _mismatches(published: PublishedWeights, runs: Iterable[PlannedRun]) -> Iterator[str]:
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
            load_init(network, published.init)
        except UserError as error:
            where = f"{same_network[0].stage} with model.name={model.name} at {size} px"
            yield f"{pluralize(len(same_network), 'run')} of {where}: {error}"


def describe(weights: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a line for each stage's fetched weights (`fetch_published`)."""
    return [f"{stage}.published: {w['init']}, sha256 {w['sha256']} ({w['file']})" for stage, w in weights.items()]
