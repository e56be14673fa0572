"""Weight files: resolve the recipe key `init` to named tensors, without executing code from the file."""

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from common.checkpoint_files import TENSORS
from common.files import path_exists
from common.models.attention_heads import heads_of_moco_v3
from common.models.checkpointed import (
    describe_folder_without_weights,
    is_checkpoint,
    read_checkpointed,
    recipe_of,
    step_names,
)
from common.models.distillation_token import without_distillation_token
from common.models.hub import WEIGHT_FILES, cached_weights, fetch_weights, not_downloaded, timm_arguments
from common.models.network_settings import NetworkSettings, settings_of_network
from common.models.other_networks import describe_unsupported_files
from common.models.patch_geometry import (
    PatchGeometry,
    geometry_of_config,
    geometry_of_model,
    geometry_of_recipe,
    geometry_of_square,
    model_type_of_config,
)
from common.models.pickled_tensors import PICKLES, describe_others, read_pickled, refused
from common.models.several_networks import (
    ChosenNetwork,
    choose_from_mapping,
    choose_from_state,
    count_parts,
    is_training_state,
)
from common.models.sharded_weights import METADATA_FILE, is_index, read_sharded
from common.models.weight_layouts import to_timm_names
from common.models.weights_error import LayoutError, WeightsError, naming_key
from common.paths import user_path
from common.tensor_files import SafetensorError, check_readable, read_tensors

logger = logging.getLogger(__name__)

_SQUARE = ("DINOv2", "CLIP")
"""Layouts of programs that train on square images only."""

WEIGHTS_FILE = "model.safetensors"
_CHOICES = (
    "use a run folder, one of its checkpoints (<run folder>/checkpoints/step-...), a .safetensors file, an official .pth,"
    f" timm:<name>, hf-hub:<id> or local-dir:<folder with {WEIGHTS_FILE}>"
)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The tensors of one network, and where they come from."""

    source: str
    """File or model name."""
    network: ChosenNetwork
    """The network that was taken, and what else the file holds."""
    geometry: PatchGeometry | None
    """Image and patch size that the weights were trained for; None if nothing states them."""
    layout: str = "timm"
    """Program in whose names the weights were saved: timm, DINOv2, DINOv3, CLIP, transformers' dinov2 ..."""
    settings: NetworkSettings = NetworkSettings()
    """Settings that no tensor tells, where the file does, or timm's network of the weights."""
    had_distillation_token: bool = False
    """Whether they are of a network with a distillation token, which is dropped with its position and classifier."""
    lacks_sums: bool = False
    """Whether they are from a checkpoint without its checksums, so that they are not verified."""


def read_weights(init: str, *, key: str = "init") -> Weights:
    """Return the weights that the recipe key `init` names: the only reader of weights, of all stages and evaluations.

    `key` is another key or option that names them. Raise WeightsError if the source does not exist, is incomplete, or cannot be
    downloaded, and UserError for a path that cannot be looked up.
    """
    scheme, _, name = init.partition(":")
    with naming_key(key):
        path = find_weights(init, key=key)
        if path is None:
            return _read_timm(init, name if scheme == "timm" else init)
        try:
            check_readable(path)
            return _read_file(path)
        except OSError as error:
            raise _unreadable(init, error) from error


def find_weights(init: str, *, fetch: bool = True, key: str = "init") -> Path | None:
    """Return the file of weights that the recipe key `init`, or another `key`, names; None for a model name of timm.

    A repository of the hub is downloaded if it is not in the cache; with `fetch=False` it is None then.
    Raise WeightsError if there is no such file, and UserError for a path that cannot be looked up.
    """
    scheme, _, name = init.partition(":")
    with naming_key(key):
        if scheme == "hf-hub":
            return fetch_weights(name, init) if fetch else cached_weights(name)
        return None if scheme == "timm" else _find_local(init, key)


def _find_local(init: str, key: str) -> Path | None:
    """Return the local file of weights that `init` names, or None for a model name of timm."""
    path = _local_path(init, key)
    try:
        is_folder = path_exists(path) and path.is_dir()
        found = _find_in_folder(path) if is_folder else None
        if is_folder and found is None:
            described = describe_unsupported_files(path) or describe_folder_without_weights(path)
            raise WeightsError(f"{init!r} {described}; otherwise {_CHOICES}")
        path = found or path
        if path_exists(path):
            if not path.is_file():  # opening a pipe could wait forever
                raise WeightsError(f"{path} is neither a file nor a folder; {_CHOICES}")
            return path
        existing = step_names(path.parent)
    except OSError as error:
        raise _unreadable(init, error) from error
    if "/" not in init and timm.is_model(init.partition(".")[0]):
        return None
    there = f"; there are {', '.join(existing)}" if existing else ""
    raise WeightsError(f"{init!r} is not a file, a folder or a model name of timm{there}; {_CHOICES}")


def _unreadable(init: str, error: OSError) -> WeightsError:
    """Return the error for weights that the system cannot read."""
    return WeightsError(
        f"{init!r} cannot be read ({error.strerror or error}: {error.filename}); check its permissions, or copy it elsewhere"
    )


def _read_file(path: Path) -> Weights:
    """Read the network in a file of weights or in a checkpoint. Raise OSError if the system cannot read it."""
    if is_checkpoint(path):
        return Weights(source=str(path), network=read_checkpointed(path), geometry=geometry_of_recipe(recipe_of(path)))
    content, others = _read_content(path)
    is_state = isinstance(content, Mapping) and is_training_state(content)
    choose = choose_from_state if is_state else choose_from_mapping
    if not isinstance(content, Mapping) or (network := choose(content)) is None or not network.tensors:
        if others:
            raise refused(path, others)
        raise WeightsError(
            f"{path} has no named tensors, neither itself nor under 'teacher', 'state_dict' or 'model'; {_CHOICES}"
        )
    if others:
        logger.info("init: not read from %s, since they are no plain data: %s", path.name, describe_others(others))
    try:
        named = to_timm_names(network.tensors, model_type_of_config(path))
    except LayoutError as error:
        raise WeightsError(f"{path} {error}") from error
    geometry = geometry_of_config(path)
    if geometry is None and named.layout in _SQUARE:
        geometry = geometry_of_square(named.tensors, f"{path} ({named.layout})")
    dropped = Counter(network.dropped) + Counter(count_parts(named.dropped))
    return Weights(
        source=str(path),
        network=replace(network, tensors=named.tensors, dropped=dict(dropped)),
        geometry=geometry,
        layout=named.layout,
        settings=named.settings.or_else(NetworkSettings(num_heads=heads_of_moco_v3(named.tensors))),
        had_distillation_token=named.had_distillation_token,
        lacks_sums=is_state,
    )


def find_local_weights(init: str) -> Path | None:
    """Return the local file that `init` refers to, or None if there is none; raise OSError if that cannot be determined."""
    if init.partition(":")[0] in ("hf-hub", "timm"):
        return None
    path = _local_path(init, "init")
    if not path_exists(path):
        return None
    return _find_in_folder(path) if path.is_dir() else path


def _local_path(init: str, key: str) -> Path:
    """Return the local path that `init` names, which the user gave for `key`."""
    scheme, _, name = init.partition(":")
    return user_path(name if scheme == "local-dir" else init, key)


def _find_in_folder(folder: Path) -> Path | None:
    """Return the weights file of a run folder (in its export), an export or a checkpoint, or what lists several; or None."""
    names = (Path("export") / WEIGHTS_FILE, WEIGHTS_FILE, TENSORS, *WEIGHT_FILES, METADATA_FILE)
    candidates = [folder / name for name in names]
    return next((candidate for candidate in candidates if path_exists(candidate)), None)


def _read_content(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Return what is in a file of weights, or in the files that one lists, and the classes in it that are no plain data."""
    if is_index(path):
        return read_sharded(path), ()
    if path.name == METADATA_FILE:
        from common.models.distributed_checkpoint import read_distributed  # imports much that nothing else needs

        return read_distributed(path), ()
    return (_read_safetensors(path), ()) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; the library rejects truncated files. Raise OSError if the system cannot read it."""
    try:
        return read_tensors(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a complete safetensors file ({error}); copy it again") from error


def _read_pickle(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read a PyTorch file of tensors; return its content and the classes in it that are no plain data."""
    if path.suffix not in PICKLES:
        raise WeightsError(f"{path} is not a supported file type; {_CHOICES}")
    return read_pickled(path)


def _read_timm(init: str, name: str) -> Weights:
    """Return the published weights of a model of timm, as converted by timm: from the cache, or downloaded."""
    arguments = timm_arguments(name, init)
    try:
        model = timm.create_model(name, pretrained=True, **arguments)
    except Exception as error:  # timm, the hub client and the network raise many types
        raise not_downloaded(init, error) from error
    tensors, dropped = without_distillation_token(model.state_dict())
    return Weights(
        source=init,
        network=ChosenNetwork(tensors=tensors, dropped=count_parts(dropped)),
        geometry=geometry_of_model(model, init),
        settings=settings_of_network(model),
        had_distillation_token=bool(dropped),
    )
