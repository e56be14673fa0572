"""Published weights that stand for a stage: fetched and checked once, before the first run that starts from them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from common.errors import UserError
from recipes.stages import load_config
from recipes.study.inputs import file_sha256
from recipes.study.plan import PlannedRun, write_value
from recipes.study.specification import Published, Study


def fetch_published(study: Study, runs: Iterable[PlannedRun]) -> dict[str, dict[str, str]]:
    """Fetch the weights that any of the runs starts from; return by stage what was found: init, file and sha256.

    Raises one UserError, before anything runs, where weights cannot be had, are of another SHA-256 than the study says, or do not
    fit the network of a run that starts from them.
    """
    runs, found = list(runs), {}
    for stage in study.stages:
        published = stage.published
        starts = [run for run in runs if published and f"init={write_value(published.init)}" in run.overrides]
        if published is None or not starts:
            continue
        from common.models.weight_files import read_weights

        key = f"{stage.name}.published"
        try:
            read_weights(published.init)
        except UserError as error:
            raise UserError(
                f"{key}: {published.told} cannot be had here, and nothing was started. Give"
                f" {key}=<a file of theirs>, or {key}=none to train the stage instead.\n  {error}"
            ) from error
        found[stage.name] = _check_digest(key, published)
        if problems := list(_misfits(published, starts)):
            raise UserError(
                f"{key}: {published.told} do not fit what starts from them, and nothing was started. Give {key}=<weights of that"
                f" network>, or {key}=none to train the stage instead.\n  " + "\n  ".join(problems)
            )
    return found


def _check_digest(key: str, published: Published) -> dict[str, str]:
    """Return init, file and SHA-256 of weights that were fetched; refuse others than the study says."""
    try:
        file = weights_file(published.init)
        digest = None if file is None else file_sha256(file)
    except OSError as error:
        raise UserError(
            f"{key}: {error.filename or published.init} cannot be read ({error.strerror or error})."
        ) from error
    if published.sha256 and digest != published.sha256:
        told = f"has the SHA-256 {digest}" if digest else "lies in no file whose SHA-256 could be told"
        raise UserError(
            f"{key} = {published.init}: {file or published.told} {told}, and the study says {published.sha256}; nothing was"
            " started. Put the right file there (in the hub's cache: remove it, and it is fetched anew), or correct sha256 in the"
            " study's file where these weights are meant."
        )
    return {"init": published.init, "file": str(file or "unknown"), "sha256": digest or "unknown"}


def weights_file(init: str) -> Path | None:
    """Return the file that weights were read from: of this machine, or in the hub's cache; none where that is not known."""
    from common.models.weight_files import local_weights

    scheme, _, name = init.partition(":")
    if scheme == "hf-hub":
        return _cached(name)
    if (local := local_weights(init)) is not None:
        return local.absolute()
    import timm

    config = timm.get_pretrained_cfg(name if scheme == "timm" else init)
    return _cached(config.hf_hub_id, config.hf_hub_filename) if config and config.hf_hub_id else None


def _cached(repository: str, file: str | None = None) -> Path | None:
    """Return the file of weights in the hub's cache that timm reads: safetensors where the repository has them."""
    from huggingface_hub import try_to_load_from_cache

    name, _, revision = repository.partition("@")
    for candidate in [file] if file else ["model.safetensors", "pytorch_model.bin"]:
        path = try_to_load_from_cache(name, candidate, revision=revision or None)
        if isinstance(path, str):
            return Path(path)
    return None


def _misfits(published: Published, runs: Iterable[PlannedRun]) -> Iterator[str]:
    """Yield what is wrong with weights for each distinct network of the runs, loaded as the stage does."""
    from common.models.networks import build_network
    from common.models.weights import load_init

    networks: dict[Any, list[PlannedRun]] = {}
    for run in runs:
        config = load_config(run.module, Path(run.recipe), run.overrides)
        # A classifier of another class count is left out of the comparison, so that any count stands for the data's.
        classes = 1 if run.module == "finetune" and config.objective != "identification" else 0
        networks.setdefault((config.model, config.data.image_size, classes), []).append(run)
    for (model, size, classes), mine in networks.items():
        try:
            load_init(build_network(model, image_size=size, num_classes=classes), published.init, image_size=size)
        except UserError as error:
            yield f"{len(mine)} of {mine[0].stage} with model.name={model.name} at {size} px: {error}"


def describe(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a line for the weights of each stage that were fetched."""
    return [f"{stage}.published: {one['init']}, sha256 {one['sha256']} ({one['file']})" for stage, one in found.items()]
