"""Weight files: resolve the recipe key `init` to named tensors, without executing code from the file."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from common.checkpoint_files import TENSORS
from common.errors import UserError
from common.files import path_exists
from common.models.checkpointed import (
    describe_folder_without_weights,
    is_checkpoint,
    read_checkpointed,
    recipe_of,
    step_names,
)
from common.models.patch_geometry import (
    CONFIG_FILE,
    PatchGeometry,
    geometry_of_config,
    geometry_of_model,
    geometry_of_recipe,
)
from common.models.several_networks import ChosenNetwork, choose_from_mapping, choose_from_state, is_training_state
from common.paths import user_path
from common.tensor_files import SafetensorError, check_readable, read_tensors

WEIGHTS_FILE = "model.safetensors"
_CHOICES = (
    "set init to a run folder, one of its checkpoints (<run folder>/checkpoints/step-...), a .safetensors file, DINO's .pth,"
    f" timm:<name>, hf-hub:<id> or local-dir:<folder with {WEIGHTS_FILE}>"
)
_PICKLES = (".pth", ".pt", ".bin", ".tar", ".ckpt")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The tensors of one network, and where they come from."""

    source: str
    """File or model name."""
    network: ChosenNetwork
    """The network that was taken, and what else the file holds."""
    geometry: PatchGeometry | None
    """Image and patch size that the weights were trained for; None if nothing states them."""
    lacks_sums: bool = False
    """Whether they are from a checkpoint without its checksums, so that they are not verified."""


def read_weights(init: str) -> Weights:
    """Return the weights that the recipe key `init` names: the only reader of weights, of all stages and evaluations.

    Raise UserError if the source does not exist, is incomplete, or holds more than weights.
    """
    scheme, _, name = init.partition(":")
    if scheme == "hf-hub":
        return _read_timm(init, init)
    if scheme == "timm":
        return _read_timm(init, name)
    path = _local_path(init)
    try:
        is_folder = path_exists(path) and path.is_dir()
        found = _find_in_folder(path) if is_folder else None
        if is_folder and found is None:
            raise UserError(f"init: {init!r} {describe_folder_without_weights(path)}; otherwise {_CHOICES}")
        path = found or path
        if path_exists(path):
            if not path.is_file():  # opening a pipe could wait forever
                raise UserError(f"init: {path} is neither a file nor a folder; {_CHOICES}")
            check_readable(path)
            return _read_file(path)
        existing = step_names(path.parent)
    except OSError as error:
        raise UserError(
            f"init: {init!r} cannot be read ({error.strerror or error}: {error.filename}); check its permissions, or copy it"
            " elsewhere"
        ) from error
    if "/" not in init and timm.is_model(init.partition(".")[0]):
        return _read_timm(init, init)
    there = f"; there are {', '.join(existing)}" if existing else ""
    raise UserError(f"init: {init!r} is not a file, a folder or a model name of timm{there}; {_CHOICES}")


def _read_file(path: Path) -> Weights:
    """Read the network in a file of weights or in a checkpoint. Raise OSError if the system cannot read it."""
    if is_checkpoint(path):
        return Weights(source=str(path), network=read_checkpointed(path), geometry=geometry_of_recipe(recipe_of(path)))
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    is_state = isinstance(content, Mapping) and is_training_state(content)
    choose = choose_from_state if is_state else choose_from_mapping
    if not isinstance(content, Mapping) or (network := choose(content)) is None:
        raise UserError(
            f"init: {path} has no named tensors, neither itself nor under 'teacher', 'state_dict' or 'model'; {_CHOICES}"
        )
    if not network.tensors:
        raise UserError(f"init: {path} has no tensors; {_CHOICES}")
    return Weights(source=str(path), network=network, geometry=geometry_of_config(path), lacks_sums=is_state)


def find_local_weights(init: str) -> Path | None:
    """Return the local file that `init` refers to, or None if there is none; raise OSError if that cannot be determined."""
    if init.partition(":")[0] in ("hf-hub", "timm"):
        return None
    path = _local_path(init)
    if not path_exists(path):
        return None
    return _find_in_folder(path) if path.is_dir() else path


def describe_network(source: str) -> str:
    """Return the network of an export, in parentheses, or an empty string if the source is not an export of this project."""
    config_file = Path(source).with_name(CONFIG_FILE)
    try:
        network = json.loads(config_file.read_text(encoding="utf-8"))["network"]
        return f" ({', '.join(f'{name}={value}' for name, value in network.items())})"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _local_path(init: str) -> Path:
    """Return the local path that `init` names."""
    scheme, _, name = init.partition(":")
    return user_path(name if scheme == "local-dir" else init, "init")


def _find_in_folder(folder: Path) -> Path | None:
    """Return the weights file of a run folder (in its export), of an export or of a checkpoint, or None."""
    candidates = (folder / "export" / WEIGHTS_FILE, folder / WEIGHTS_FILE, folder / TENSORS)
    return next((candidate for candidate in candidates if path_exists(candidate)), None)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; the library rejects truncated files. Raise OSError if the system cannot read it."""
    try:
        return read_tensors(path)
    except SafetensorError as error:
        raise UserError(f"init: {path} is not a complete safetensors file ({error}); copy it again") from error


def _read_pickle(path: Path) -> Any:
    """Read a PyTorch file of tensors; reject a pickle that needs anything beyond tensors and plain containers.

    DINO's full checkpoints contain their command line as an `argparse.Namespace`, which is plain data and allowed.
    """
    if path.suffix not in _PICKLES:
        raise UserError(f"init: {path} is not a supported file type; {_CHOICES}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many types: struct.error, AttributeError, ...
        raise UserError(
            f"init: {path} cannot be read as weights only: it is truncated, or a pickle with more than tensors, which could"
            " execute code and is not loaded; if you trust it, convert it to safetensors"
        ) from error


def _read_timm(init: str, name: str) -> Weights:
    """Return the published weights of a model of timm or the hub, as converted by timm."""
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # timm, the hub client and the network raise many types
        reason = " ".join(str(error).split())
        raise UserError(
            f"init: {init!r} could not be downloaded; check the name and the connection, or download the weights and set init to"
            f" the file ({type(error).__name__}: {reason})"
        ) from error
    return Weights(
        source=init,
        network=ChosenNetwork(tensors=dict(model.state_dict())),
        geometry=geometry_of_model(model, init),
    )
