"""Owns where weights are read from: turns the recipe key `init` into tensors by name, without running anyone's code."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from common.errors import UserError
from common.files import is_there
from common.paths import user_path
from common.tensor_files import SafetensorError, check_readable, read_tensors

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
_CHOICES = (
    "give a run folder, a .safetensors file, DINO's .pth, timm:<name>, hf-hub:<id>"
    f" or local-dir:<folder with {WEIGHTS_FILE}>"
)
_PICKLES = (".pth", ".pt", ".bin", ".tar", ".ckpt")


def read_weights(init: str) -> tuple[str, dict[str, Tensor]]:
    """Return where the weights were found, and the weights by name.

    Errors: nothing there by that name, or a file that is not whole or holds more than weights.
    """
    scheme, _, name = init.partition(":")
    if scheme == "hf-hub":
        return init, _read_timm(init, init)
    if scheme == "timm":
        return init, _read_timm(init, name)
    path = _local_path(init)
    try:
        is_folder = is_there(path) and path.is_dir()
        found = _find_in_folder(path) if is_folder else None
        if is_folder and found is None:
            raise UserError(
                f"init: {init!r} holds neither export/{WEIGHTS_FILE} nor {WEIGHTS_FILE}; if it is a run, let it finish;"
                f" otherwise {_CHOICES}"
            )
        path = found or path
        is_file = is_there(path)
        if is_file:
            check_readable(path)
    except OSError as error:
        raise UserError(
            f"init: {init!r} cannot be read ({error.strerror or error}: {error.filename}); let this process read it, or copy it"
            " elsewhere"
        ) from error
    if is_file:
        return str(path), _backbone(
            path, _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
        )
    if "/" not in init and timm.is_model(init.partition(".")[0]):
        return init, _read_timm(init, init)
    raise UserError(f"init: {init!r} is no file, no folder and no name that timm knows; {_CHOICES}")


def local_weights(init: str) -> Path | None:
    """Return the file that `init` stands for, where it is of this machine and there; OSError where that cannot be told."""
    if init.partition(":")[0] in ("hf-hub", "timm"):
        return None
    path = _local_path(init)
    if not is_there(path):
        return None
    return _find_in_folder(path) if path.is_dir() else path


def describe_network(source: str) -> str:
    """Return, in brackets, the network that an export says it holds; nothing where the source is no export of ours."""
    config_file = Path(source).with_name(CONFIG_FILE)
    try:
        network = json.loads(config_file.read_text(encoding="utf-8"))["network"]
        return f" ({', '.join(f'{name}={value}' for name, value in network.items())})"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _local_path(init: str) -> Path:
    """Return the file or folder that `init` names where it is of this machine."""
    scheme, _, name = init.partition(":")
    return user_path(name if scheme == "local-dir" else init, "init")


def _find_in_folder(folder: Path) -> Path | None:
    """Return the weights of a run folder (its export) or of an export itself; none where there are none."""
    candidates = (folder / "export" / WEIGHTS_FILE, folder / WEIGHTS_FILE)
    return next((candidate for candidate in candidates if is_there(candidate)), None)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; its reader refuses whatever is cut short."""
    try:
        return read_tensors(path)
    except OSError as error:
        raise UserError(
            f"init: {path} cannot be read ({error.strerror or error}); let this process read it, or copy it elsewhere"
        ) from error
    except SafetensorError as error:
        raise UserError(f"init: {path} is not a whole safetensors file ({error}); copy it again") from error


def _read_pickle(path: Path) -> Any:
    """Read a PyTorch file of tensors; one that asks for more than tensors and plain records is refused.

    DINO's full checkpoints hold their command line as an `argparse.Namespace`, a plain record, which is let through.
    """
    if path.suffix not in _PICKLES:
        raise UserError(f"init: {path} is of no kind known here; {_CHOICES}")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows as whatever the reader trips over: struct.error, AttributeError, ...
        raise UserError(
            f"init: {path} cannot be read as weights alone: it is cut short, or a pickle that holds more than tensors,"
            " which could run code and is not opened; convert it to safetensors where you trust it"
        ) from error


def _backbone(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the network's own tensors from what DINO and its kin save: the teacher's backbone, without its head."""
    if isinstance(content, Mapping):
        nested = [content[key] for key in ("teacher", "state_dict", "model") if isinstance(content.get(key), Mapping)]
        content = nested[0] if nested else content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(
            f"init: {path} holds no tensors by name, nor a 'teacher', 'state_dict' or 'model' that does; {_CHOICES}"
        )
    if not content:
        raise UserError(f"init: {path} holds no tensor at all; {_CHOICES}")
    weights = {str(name).removeprefix("module."): tensor for name, tensor in content.items()}
    backbone = {
        name.removeprefix("backbone."): tensor for name, tensor in weights.items() if name.startswith("backbone.")
    }
    return backbone or weights


def _read_timm(init: str, name: str) -> dict[str, Tensor]:
    """Return the published weights of a timm or hub model, as timm converts them."""
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:  # timm, the hub's client and the network underneath raise many kinds
        reason = " ".join(str(error).split())
        raise UserError(
            f"init: {init!r} could not be fetched; check the name and the connection, or download the weights and give"
            f" the file ({type(error).__name__}: {reason})"
        ) from error
