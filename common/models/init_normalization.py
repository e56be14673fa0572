"""Mean and standard deviation of pixel values that weights state, for the normalization of a recipe that starts from them."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import timm

from common.models.checkpointed import is_checkpoint, recipe_of
from common.models.config_files import OPEN_CLIP, read_json, section_of
from common.models.hub import check_timm_name, fetch_descriptions
from common.models.network_of_weights import patch_of_weights
from common.models.patch_geometry import read_config, read_recipe
from common.models.weight_files import find_weights, read_weights

logger = logging.getLogger(__name__)

_PREPROCESSOR, _PROCESSOR = "preprocessor_config.json", "processor_config.json"
"""transformers' files on images: of an image processor, and of a processor of images and texts."""
_DATA = "data.json"
"""A run's record of its data, with the normalization that it measured."""
_CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
"""Of OpenAI's CLIP, and OpenCLIP's default."""


@dataclass(frozen=True)
class WeightFacts:
    """What the tensors of a file of weights tell before a network is built."""

    patch_size: int | None
    """Side of a patch in pixels; None for any other stem than patchify."""
    is_clip: bool


@lru_cache(maxsize=32)
def facts_of_file(init: str, _: int) -> WeightFacts:
    """Return the facts of a file of weights, read once for all runs that start from it; `_` is its time."""
    weights = read_weights(init)
    is_clip = weights.layout == "CLIP" or "norm_pre.weight" in weights.network.tensors
    return WeightFacts(patch_of_weights(weights), is_clip)


def normalization_of_init(init: str, *, fetch: bool = True) -> dict[str, list[float]] | None:
    """Return mean and std of each channel of weights, for pixel values in [0, 1], or None if nothing states them.

    With `fetch`, files of a repository of the hub that the cache lacks are downloaded if the hub can be reached.
    """
    scheme, _, name = init.partition(":")
    path = find_weights(init, fetch=fetch)
    if path is None:
        return _of_timm(name if scheme == "timm" else init, init) if scheme != "hf-hub" else None
    if is_checkpoint(path) or "network" in read_config(path):
        return normalization_of_own(path)
    if (found := _stated_beside(path)) is not None:
        return found
    unknown = fetch_descriptions(name, init) if scheme == "hf-hub" and fetch else None
    if (found := _stated_beside(path)) is not None:
        return found
    if facts_of_file(init, path.stat().st_mtime_ns).is_clip:
        logger.info("init: nothing states the normalization of these weights of CLIP: that of OpenAI's CLIP is assumed")
        return _CLIP
    if unknown is not None:
        logger.warning(
            "init: warning: nothing in the cache states the normalization of %s (%s), so ImageNet's is used; connect once, or set"
            " data.mean and data.std",
            init,
            unknown,
        )
    return None


def normalization_of_own(path: Path) -> dict[str, list[float]] | None:
    """Return the normalization of the run whose export or checkpoint is at `path`; None for weights of other programs."""
    if is_checkpoint(path):
        return _of_run(recipe_of(path))
    config = read_config(path)
    return _numbers(section_of(config, "pretrained_cfg")) if "network" in config else None


def _of_run(recipe: Path | None) -> dict[str, list[float]] | None:
    """Return the normalization of the run with this resolved recipe, or None: its numbers, or those that it measured."""
    if recipe is None:
        return None
    data = section_of(read_recipe(recipe), "data")
    of_all = {name: [value] * data.get("channels", 3) for name, value in data.items() if isinstance(value, float)}
    return _numbers(data | of_all) or _numbers(section_of(read_json(recipe.with_name(_DATA)), "normalization"))


def _of_timm(name: str, init: str) -> dict[str, list[float]] | None:
    """Return the normalization of timm's published weights of this name."""
    check_timm_name(name, init)
    cfg: Any = timm.get_pretrained_cfg(name)
    return _numbers({"mean": getattr(cfg, "mean", None), "std": getattr(cfg, "std", None)})


def _stated_beside(path: Path) -> dict[str, list[float]] | None:
    """Return the normalization that the files beside a file of weights state, or None."""
    return next((found for each in _sections(path) if (found := _numbers(each)) is not None), None)


def _sections(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield what may state a normalization: timm's config, transformers' processors, OpenCLIP's config."""
    config = read_config(path)
    yield section_of(config, "pretrained_cfg")
    yield config
    images = section_of(read_json(path.with_name(_PROCESSOR)), "image_processor")
    for processor in (read_json(path.with_name(_PREPROCESSOR)), images):
        if processor.get("do_normalize") is False:
            yield {"mean": [0.0] * 3, "std": [1.0] * 3}
        yield {name: processor.get(f"image_{name}") for name in ("mean", "std")}
    yield section_of(read_json(path.with_name(OPEN_CLIP)), "preprocess_cfg")


def _numbers(found: Mapping[str, Any]) -> dict[str, list[float]] | None:
    """Return mean and std of a mapping, one number for each channel, or None unless it has both."""
    values: dict[str, list[float]] = {}
    for name in ("mean", "std"):
        value = found.get(name)
        if not isinstance(value, list | tuple) or not value or not all(isinstance(each, int | float) for each in value):
            return None
        values[name] = [float(each) for each in value]
    return values
