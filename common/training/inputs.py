"""What a run reads besides its images: initial weights and token labels, compared by content when it resumes.

`inputs.json` in the run folder has, for each key, the path, and hashes of what was read there.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import config as recipes
from common.data.token_labels.files import MANIFEST
from common.errors import UserError
from common.files import path_exists, write_atomic
from common.json_text import to_json
from common.models.weight_files import read_weights
from common.paths import is_local, user_path
from common.training.run_folder import RunFolder, other_recipe

logger = logging.getLogger(__name__)

INPUTS_FILE = "inputs.json"
Inputs = dict[str, dict[str, str]]
"""By key: the path, and hashes by what they are of."""


def describe_inputs(config: Any, *, stage: str) -> Inputs:
    """Return path and hashes of the initial weights and the token labels that a recipe names by a path. Other names have none.

    Raise UserError for weights that cannot be read.
    """
    keys = recipes.flatten(recipes.to_mapping(config))
    found: Inputs = {}
    if isinstance(init := keys.get("init"), str) and is_local(init):
        try:
            found["init"] = {"path": init, **hash_tensors(read_weights(init).network.tensors)}
        except UserError:
            if stage != "token_labels":  # a teacher may have other files; the labels have a hash of it
                raise
    if isinstance(labels := keys.get("token_labels.labels"), str):
        path = user_path(labels, "token_labels.labels") / MANIFEST
        if path_exists(path):
            found["token_labels.labels"] = {"path": labels, "description": _hash_description(path.read_bytes())}
    return found


def hash_tensors(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the SHA-256 of names, types and shapes of tensors, and that of their values."""
    names, values = hashlib.sha256(), hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        names.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.layout == torch.strided and tensor.device.type != "meta" and not tensor.is_quantized:
            values.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return {"names, types and shapes": names.hexdigest(), "values": values.hexdigest()}


def check_inputs(current: Inputs, files: RunFolder, *, resumes: bool) -> None:
    """Compare the inputs with those that the run in the folder began with, if it `resumes` or names them by other paths.

    Raise UserError if they differ, or cannot be compared and have other paths.
    """
    moved = {key: paths for key, paths in files.moved.items() if not key.startswith("data.")}
    saved = _read(files.path / INPUTS_FILE) if resumes or moved else {}
    for key in sorted({*moved, *(saved.keys() & current.keys())}):
        if key not in saved or key not in current:
            raise other_recipe(files.path, {key: moved[key]})
        before, now = saved[key], current[key]
        differing = [what for what in now if what != "path" and before.get(what) != now[what]]
        if differing:
            raise UserError(
                f"{key} = {now['path']}: the run in {files.path} began with others, of {before.get('path')}: their"
                f" {' and '.join(differing)} differ. Set {key} to those, or set another out."
            )
        if key in moved:
            logger.info("%s was %s, now %s, with the same content: the run is the same", key, *moved[key])


def save_inputs(current: Inputs, folder: Path) -> None:
    """Write the inputs into a run folder; nothing if there are none."""
    path = folder / INPUTS_FILE
    if current or path_exists(path):
        write_atomic(path, to_json(current, indent=2) + "\n")


def _hash_description(text: bytes) -> str:
    """Return the SHA-256 of a description of token labels without its teacher's path; it has a hash of the teacher."""
    try:
        description = json.loads(text)
        text = to_json({key: value for key, value in description.items() if key != "teacher"}).encode()
    except (ValueError, AttributeError, RecursionError):
        pass  # whoever reads the labels reports it
    return hashlib.sha256(text).hexdigest()


def _read(path: Path) -> Inputs:
    """Return the saved inputs of a run; none if it is of an earlier version."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(key): dict(value) for key, value in found.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). It may be intact: make it readable for this process"
            " (permissions, file system)."
        ) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: not the inputs of a run ({error}). Restore it or set another out.") from error
