"""What a recipe takes from its weights `init` unless it is set: network, patch size, normalization.

`model.name=init` stands for the network of the weights, with whose normalization (`data.mean`, `data.std`) it comes. Of a network
that the recipe names, patch size and normalization come with weights of other programs; those of this project's runs are in the
run's own recipe, and nothing is changed.
"""

import logging
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from common.config import Config, build, to_mapping
from common.errors import UserError
from common.files import path_exists
from common.models.architectures import ARCHITECTURES
from common.models.checkpointed import is_checkpoint, recipe_of
from common.models.config_files import check_open_clip, settings_of_file
from common.models.distillation_token import without_distillation
from common.models.hub import check_timm_name, fetch_descriptions
from common.models.init_normalization import facts_of_file, normalization_of_init
from common.models.meta import on_meta_device
from common.models.network_of_weights import NamedNetwork, network_of_weights
from common.models.network_settings import NetworkSettings, settings_of_network
from common.models.networks import OF_INIT, ModelConfig, build_network
from common.models.patch_geometry import CONFIG_FILE, read_config, read_recipe
from common.models.timm_networks import format_kwargs, is_timm_transformer, parse_kwargs, patch_of_name
from common.models.weight_files import find_weights, read_weights
from common.models.weights_error import WeightsError, naming_key

logger = logging.getLogger(__name__)

Recipe = TypeVar("Recipe", bound=Config)
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
        network = _network(init, model, getattr(getattr(config, "data", None), "image_size", None))
        return _changed(config, network, _normalization(config, keys_set, init, fetch=fetch))
    if init is None:
        return config
    try:
        if is_own_weights(init, fetch=fetch):
            return config
        patch = _patch(model, init, fetch=fetch)
        return _changed(config, patch, _normalization(config, keys_set, init, fetch=fetch))
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


def _network(init: str, model: ModelConfig, image_size: int | tuple[int, int] | None) -> dict[str, Any]:
    """Return the keys of the network of the weights."""
    given = parse_kwargs(model.kwargs)
    num_heads = given.pop("num_heads", None)
    if given or not (num_heads is None or isinstance(num_heads, int)):
        raise UserError(
            f"model.kwargs = {list(model.kwargs)}: with model.name=init the weights tell them, all but the number of heads; set"
            " model.kwargs=[num_heads=<number>], or none, or name the network"
        )
    try:
        network = network_of_init(init, num_heads=num_heads, image_size=image_size)
    except WeightsError as error:
        raise UserError(
            f"model.name: init stands for the network of the weights. Name it, or correct init.\n  {error}"
        ) from error
    if network.assumed_heads is not None:
        logger.info(
            "init: heads: %d (assumed from the width; model.kwargs=[num_heads=...] states others)",
            network.assumed_heads,
        )
    keys: dict[str, Any] = {"name": network.name, "patch_size": network.patch_size, "kwargs": list(network.kwargs)}
    strides = None if network.stem_strides is None else list(network.stem_strides)
    return keys | {"stem": network.stem, "stem_strides": strides, "ffn": network.ffn}


def network_of_init(
    init: str, *, num_heads: int | None = None, image_size: int | tuple[int, int] | None = None
) -> NamedNetwork:
    """Return the network of the weights that the recipe key `init` names.

    `num_heads` is the number of heads where the weights state none, `image_size` that of the recipe's images. Raise UserError if
    the network cannot be told, and if the weights state another number of heads.
    """
    network = _stated_network(init)
    if network is None:
        path = find_weights(init)
        assert path is not None, "networks of timm are stated"
        weights = read_weights(init)
        check_open_clip(path, weights.layout)
        stated = settings_of_file(path, weights.layout).or_else(weights.settings)
        _check_heads(num_heads, stated.num_heads, init)
        stated = stated.or_else(NetworkSettings(num_heads=num_heads))
        return network_of_weights(weights, stated, init, image_size=image_size)
    if num_heads is not None:
        with on_meta_device():
            built = build_network(network.config(), image_size=16 * (network.patch_size or 1), num_classes=0)
        _check_heads(num_heads, settings_of_network(built).num_heads, init)
    return network


def _check_heads(given: int | None, stated: int | None, init: str) -> None:
    """Raise UserError if the recipe states another number of heads than the weights."""
    if given is not None and stated is not None and given != stated:
        raise UserError(
            f"model.kwargs: num_heads={given}, but {init} states {stated} attention heads; remove num_heads"
        )


def _stated_network(init: str) -> NamedNetwork | None:
    """Return the network that timm's name, a run's recipe or a config names, or None if only the tensors tell it."""
    scheme, _, name = init.partition(":")
    path = find_weights(init)
    if path is None:
        with naming_key("init"):
            check_timm_name(name if scheme == "timm" else init, init)
        return _network_of_timm(name if scheme == "timm" else init, {}, init)
    if is_checkpoint(path):
        return _network_of_run(read_recipe(recipe_of(path)).get("model"), init)
    if scheme == "hf-hub" and not path_exists(path.with_name(CONFIG_FILE)):
        fetch_descriptions(name, init)
    config = read_config(path)
    if isinstance(config.get("network"), dict):
        return _network_of_run(config["network"], init)
    if isinstance(architecture := config.get("architecture"), str):
        return _network_of_timm(architecture, config.get("model_args") or {}, init)
    return None


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
        patch = facts_of_file(init, path.stat().st_mtime_ns).patch_size
    return {} if patch in (None, model.patch()) else {"patch_size": patch}


def _keys_set(config: Config) -> frozenset[str]:
    """Return the keys that a recipe sets in its section `data`; the normalization if it has no such section."""
    data = getattr(config, "data", None)
    return frozenset(data.model_fields_set if isinstance(data, Config) else ("mean", "std"))


def _normalization(config: Config, keys_set: Collection[str], init: str, *, fetch: bool) -> dict[str, list[float]]:
    """Return the mean and deviation of the weights, where the recipe sets none: `keys_set` are the keys it sets in `data`.

    Weights of images with another number of channels give none.
    """
    if {"mean", "std"}.issubset(keys_set):
        return {}
    stated = normalization_of_init(init, fetch=fetch) or {}
    channels = getattr(getattr(config, "data", None), "channels", 3)
    return {name: value for name, value in stated.items() if name not in keys_set and len(value) == channels}
