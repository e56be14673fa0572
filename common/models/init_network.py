"""What a recipe takes from its weights `init` unless it is set: network, patch size, normalization.

`model.name=init` stands for the network of the weights. Patch size and normalization (`data.mean`, `data.std`) come with weights of
other programs unless the recipe sets them; those of this project's runs are in the run's own recipe, and nothing is changed.
"""

import json
import logging
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import timm

from common.config import Config, build, to_mapping
from common.errors import UserError
from common.models.architectures import ARCHITECTURES
from common.models.checkpointed import is_checkpoint, recipe_of
from common.models.distillation_token import without_distillation
from common.models.network_of_weights import NamedNetwork, network_of_weights, patch_of_weights
from common.models.networks import OF_INIT, ModelConfig
from common.models.patch_geometry import read_config, read_recipe
from common.models.timm_networks import format_kwargs, is_timm_transformer, patch_of_name
from common.models.weight_files import find_weights, read_weights
from common.models.weights_error import WeightsError

logger = logging.getLogger(__name__)

Recipe = TypeVar("Recipe", bound=Config)
_PREPROCESSOR, _OPEN_CLIP = "preprocessor_config.json", "open_clip_config.json"
_SHAPE_ARGUMENTS = (
    "img_size",
    "patch_size",
    "num_classes",
    "in_chans",
    "drop_path_rate",
    "pretrained",
    "dynamic_img_size",
)
"""Arguments of timm that a recipe states by keys of its own."""


def follow_init(config: Recipe, *, fetch: bool = True) -> Recipe:
    """Return a recipe with network, patch size and normalization of its weights, where it does not set them; log each of them.

    With `fetch=False` a repository of the hub that is not in the cache is not downloaded for patch size and normalization.

    Raise UserError for `model.name=init` without weights, or with weights whose network cannot be told.
    """
    model, init = getattr(config, "model", None), getattr(config, "init", None)
    if not isinstance(model, ModelConfig) or not hasattr(config, "init"):
        return config
    keys_set = _keys_set(config)  # the recipe built again sets all keys
    if model.patch_size is None and is_timm_transformer(model.name):
        config = _changed(config, {"patch_size": model.patch()}, {})  # the checks of crops read the key
    if model.name == OF_INIT:
        if init is None:
            raise UserError(
                "model.name: init stands for the network of the weights, but init is none; set init to weights, or name a network"
            )
        return _changed(config, _network(init), _normalization(keys_set, init, fetch=fetch))
    if init is None:
        return config
    try:
        if is_own_weights(init, fetch=fetch):
            return config
        return _changed(config, _patch(model, init, fetch=fetch), _normalization(keys_set, init, fetch=fetch))
    except (UserError, OSError):  # reported when the weights are loaded; a finished run does not need them
        return config


def _changed(config: Recipe, model: Mapping[str, Any], data: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values in the sections `model` and `data`, validated again; log them."""
    changes = {"model": model, "data": data}
    mapping = to_mapping(config)
    for section, values in changes.items():
        for name, value in values.items():
            if mapping[section][name] != value:
                logger.info("init: %s.%s = %s, of the weights", section, name, "none" if value is None else value)
                mapping[section][name] = value
    return (
        config if mapping == to_mapping(config) else build(type(config), mapping, source="the recipe with its weights")
    )


def _network(init: str) -> dict[str, Any]:
    """Return the keys of the network of the weights."""
    try:
        network = network_of_init(init)
    except WeightsError as error:
        raise UserError(
            f"model.name: init stands for the network of the weights. Name it, or correct init.\n  {error}"
        ) from error
    keys: dict[str, Any] = {"name": network.name, "patch_size": network.patch_size, "kwargs": list(network.kwargs)}
    strides = None if network.stem_strides is None else list(network.stem_strides)
    return keys | {"stem": network.stem, "stem_strides": strides, "ffn": network.ffn}


def network_of_init(init: str) -> NamedNetwork:
    """Return the network of the weights that the recipe key `init` names. Raise UserError if it cannot be told."""
    scheme, _, name = init.partition(":")
    path = find_weights(init)
    if path is None:
        return _network_of_timm(name if scheme == "timm" else init, {}, init)
    if is_checkpoint(path):
        return _network_of_run(read_recipe(recipe_of(path)).get("model"), init)
    config = read_config(path)
    if isinstance(config.get("network"), dict):
        return _network_of_run(config["network"], init)
    if isinstance(architecture := config.get("architecture"), str):
        return _network_of_timm(architecture, config.get("model_args") or {}, init)
    vision = config.get("vision_config")
    return network_of_weights(read_weights(init), _with_activation(vision or config, path), init)


def _network_of_timm(name: str, arguments: Mapping[str, Any], init: str) -> NamedNetwork:
    """Return a network that timm names, one of this project if it is the same."""
    base = without_distillation(name.partition(".")[0])
    own = {f"vit_{size}_patch{patch}_224": f"vit_{size}" for size in ("tiny", "small", "base") for patch in (8, 16, 32)}
    kwargs = {key: value for key, value in arguments.items() if key not in _SHAPE_ARGUMENTS}
    if not kwargs and base in own:
        return NamedNetwork(name=own[base], patch_size=patch_of_name(base))
    if not is_timm_transformer(base):
        raise UserError(
            f"model.name: init stands for the network of {init}, {base}, which is not a vision transformer of one patch size; set"
            f" model.name to one of {', '.join(ARCHITECTURES)} or to a timm name such as vit_small_patch14_dinov2"
        )
    stated = arguments.get("patch_size")
    patch = stated if isinstance(stated, int) else patch_of_name(base)
    return NamedNetwork(name=base, patch_size=patch, kwargs=format_kwargs(kwargs))


def _network_of_run(section: Any, init: str) -> NamedNetwork:
    """Return the network of a run of this project, from its recipe or the config of its export."""
    if not isinstance(section, dict) or not isinstance(section.get("name"), str):
        raise UserError(
            f"model.name: init stands for the network of {init}, whose recipe is missing; set model.name to its name"
        )
    strides = section.get("stem_strides")
    return NamedNetwork(
        name=section["name"],
        patch_size=section.get("patch_size"),
        kwargs=tuple(section.get("kwargs") or ()),
        stem=section.get("stem"),
        stem_strides=None if strides is None else tuple(strides),
        ffn=section.get("ffn", "mlp"),
    )


def is_own_weights(init: str, *, fetch: bool = True) -> bool:
    """Return whether weights are of a run of this project."""
    path = find_weights(init, fetch=fetch)
    return path is not None and (is_checkpoint(path) or "network" in read_config(path))


def _patch(model: ModelConfig, init: str, *, fetch: bool) -> dict[str, Any]:
    """Return the patch size of the weights, if the recipe sets none and the network is a transformer with a patchify stem."""
    own = ARCHITECTURES.get(model.name)
    stem = model.stem or (own and own.stem)
    is_patchify = own is None or stem in ("patchify", "1Proj")
    if model.patch_size is not None or not is_patchify:
        return {}
    scheme, _, name = init.partition(":")
    name = without_distillation(name if scheme == "timm" else init)
    if (path := find_weights(init, fetch=fetch)) is None:
        patch = patch_of_name(name) if is_timm_transformer(name) else None
    else:
        patch = _patch_of_file(init, path.stat().st_mtime_ns)
    return {} if patch in (None, model.patch()) else {"patch_size": patch}


@lru_cache(maxsize=32)
def _patch_of_file(init: str, _: int) -> int | None:
    """Return the side of a patch of a file of weights, read once for all runs that start from it; `_` is its time."""
    return patch_of_weights(read_weights(init))


def _keys_set(config: Config) -> frozenset[str]:
    """Return the keys that a recipe sets in its section `data`; the normalization if it has no such section."""
    data = getattr(config, "data", None)
    return frozenset(data.model_fields_set if isinstance(data, Config) else ("mean", "std"))


def _normalization(keys_set: Collection[str], init: str, *, fetch: bool) -> dict[str, Any]:
    """Return the mean and deviation that weights state, where the recipe sets none: `keys_set` are the keys it sets in `data`.

    A recipe for other than three channels sets both.
    """
    stated = normalization_of_init(init, fetch=fetch)
    return {name: value for name, value in (stated or {}).items() if name not in keys_set}


def normalization_of_init(init: str, *, fetch: bool = True) -> dict[str, list[float]] | None:
    """Return mean and std of weights of another program, for pixel values in [0, 1], or None if nothing states them."""
    scheme, _, name = init.partition(":")
    path, found = find_weights(init, fetch=fetch), dict[str, Any]()
    if path is None:
        cfg: Any = timm.get_pretrained_cfg(name if scheme == "timm" else init) if scheme != "hf-hub" else None
        found = {"mean": getattr(cfg, "mean", None), "std": getattr(cfg, "std", None)}
    else:
        config = read_config(path)
        if is_checkpoint(path) or "network" in config:
            return None
        of_timm = config.get("pretrained_cfg") or config
        processor = _read(path.with_name(_PREPROCESSOR))
        clip = _read(path.with_name(_OPEN_CLIP)).get("preprocess_cfg") or {}
        found = {
            name: of_timm.get(name) or processor.get(f"image_{name}") or clip.get(name) for name in ("mean", "std")
        }
    return {name: list(value) for name, value in found.items()} if all(map(_is_color, found.values())) else None


def _is_color(value: Any) -> bool:
    """Return whether a value is three numbers."""
    return isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(each, int | float) for each in value)


def _with_activation(config: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """Return transformers' config, or OpenCLIP's activation function in its words."""
    clip = _read(path.with_name(_OPEN_CLIP)).get("model_cfg")
    return config if clip is None else {"hidden_act": "quick_gelu" if clip.get("quick_gelu") else "gelu"}


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON file's mapping, or an empty one if there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
