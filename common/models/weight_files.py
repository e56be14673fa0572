"""Weight files: resolve the recipe key `init` to named tensors, without executing code from the file."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from common.errors import UserError
from common.files import path_exists
from common.paths import user_path
from common.tensor_files import SafetensorError, check_readable, read_tensors

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
_CHOICES = (
    "set init to a run folder, a .safetensors file, DINO's .pth, timm:<name>, hf-hub:<id>"
    f" or local-dir:<folder with {WEIGHTS_FILE}>"
)
_PICKLES = (".pth", ".pt", ".bin", ".tar", ".ckpt")


def read_weights(init: str) -> tuple[str, dict[str, Tensor]]:
    """Return the source of the weights and the weights by name.

    Raise UserError if the source does not exist, is incomplete, or holds more than weights.
    """
    scheme, _, name = init.partition(":")
    if scheme == "hf-hub":
        return init, _read_timm(init, init)
    if scheme == "timm":
        return init, _read_timm(init, name)
    path = _local_path(init)
    try:
        is_folder = path_exists(path) and path.is_dir()
        found = _find_in_folder(path) if is_folder else None
        if is_folder and found is None:
            raise UserError(
                f"init: {init!r} has neither export/{WEIGHTS_FILE} nor {WEIGHTS_FILE}; if it is a run, let it finish;"
                f" otherwise {_CHOICES}"
            )
        path = found or path
        is_file = path_exists(path)
        if is_file:
            check_readable(path)
    except OSError as error:
        raise UserError(
            f"init: {init!r} cannot be read ({error.strerror or error}: {error.filename}); check its permissions, or copy it"
            " elsewhere"
        ) from error
    if is_file:
        return str(path), _backbone(
            path, _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
        )
    if "/" not in init and timm.is_model(init.partition(".")[0]):
        return init, _read_timm(init, init)
    raise UserError(f"init: {init!r} is not a file, a folder or a model name of timm; {_CHOICES}")


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
    """Return the weights file of a run folder (in its export) or of an export folder, or None."""
    candidates = (folder / "export" / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    return next((candidate for candidate in candidates if path_exists(candidate)), None)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; the library rejects truncated files."""
    try:
        return read_tensors(path)
    except OSError as error:
        raise UserError(
            f"init: {path} cannot be read ({error.strerror or error}); check its permissions, or copy it elsewhere"
        ) from error
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


def _backbone(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the network's tensors from a checkpoint of DINO or similar code: the teacher's backbone, without its head."""
    if isinstance(content, Mapping):
        nested = [content[key] for key in ("teacher", "state_dict", "model") if isinstance(content.get(key), Mapping)]
        content = nested[0] if nested else content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(
            f"init: {path} has no named tensors, neither itself nor under 'teacher', 'state_dict' or 'model'; {_CHOICES}"
        )
    if not content:
        raise UserError(f"init: {path} has no tensors; {_CHOICES}")
    weights = {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
    backbone = {
        name.removeprefix("backbone."): tensor for name, tensor in weights.items() if name.startswith("backbone.")
    }
    return backbone or weights


def _read_timm(init: str, name: str) -> dict[str, Tensor]:
    """Return the published weights of a model of timm or the hub, as converted by timm."""
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # timm, the hub client and the network raise many types
        reason = " ".join(str(error).split())
        raise UserError(
            f"init: {init!r} could not be downloaded; check the name and the connection, or download the weights and set init to"
            f" the file ({type(error).__name__}: {reason})"
        ) from error
