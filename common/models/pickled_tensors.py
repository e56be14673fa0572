"""Tensors of a PyTorch file (`torch.save`), read without executing code from it."""

import argparse
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import scalar

from common.models.weights_error import WeightsError

PICKLES = (".pth", ".pt", ".bin", ".tar", ".ckpt")
_OF_CLIP = {
    "ViT-B-32": "vit_base_patch32_clip_quickgelu_224",
    "ViT-B-16": "vit_base_patch16_clip_quickgelu_224",
    "ViT-L-14": "vit_large_patch14_clip_quickgelu_224",
    "ViT-L-14-336px": "vit_large_patch14_clip_quickgelu_336",
}
"""Names of OpenAI's archives of CLIP, and timm's of their image towers, with the activation function of their training."""
_NAMED = 3
"""Classes that a message names at most."""


_DTYPES = (np.bool_, np.int32, np.int64, np.float16, np.float32, np.float64)
_PLAIN: tuple[Any, ...] = (
    argparse.Namespace,
    *((scalar, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.dtype,
    *(type(np.dtype(each)) for each in _DTYPES),
)
"""Plain data beside the weights-only unpickler's own types: command lines and NumPy's numbers."""


class _InertMapping:
    """Stand-in for any class or function of a pickle: called with anything, it gives an empty mapping, for items to be set."""

    def __new__(cls, *_: Any) -> Any:
        """Return a mapping of the only kind that PyTorch's unpickler fills with items."""
        return OrderedDict()


class _InertObject:
    """Stand-in for any class or function of a pickle: called with anything, it gives an object that ignores its state."""

    def __new__(cls, *_: Any) -> Any:
        """Return an object without attributes."""
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        """Ignore the arguments."""

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


def read_pickled(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Return the content of a PyTorch file, and the names of classes and functions in it that are no plain data.

    PyTorch's weights-only unpickler reads it. Training programs put settings and callbacks beside the tensors: what is neither a
    tensor nor plain data is replaced by an empty mapping or object; nothing of it is imported or executed.

    Raise WeightsError for a file that is damaged or cannot be read without such an object, and for a TorchScript archive.
    """
    if _is_program(path):
        raise _no_program(path)
    problem: Exception | None = None
    with torch.serialization.safe_globals(list(_PLAIN)):
        others = _other_globals(path)
        for stand_in in (_InertMapping, _InertObject) if others else (_InertMapping,):
            stand_ins: list[Any] = [(stand_in, name) for name in others]
            try:
                with torch.serialization.safe_globals(stand_ins):
                    return torch.load(path, map_location="cpu", weights_only=True), others
            except Exception as error:  # damaged files raise many types: struct.error, AttributeError, ...
                problem = error
    raise refused(path, others) from problem


def refused(path: Path, others: tuple[str, ...] = ()) -> WeightsError:
    """Return the error for a file whose tensors cannot be read as weights only; `others` are not plain data."""
    what = f" ({describe_others(others)})" if others else ""
    return WeightsError(
        f"{path} cannot be read as weights only: it is truncated, or a pickle with more than tensors{what}, which could"
        " execute code and is not loaded; if you trust it, convert it to safetensors"
    )


def _is_program(path: Path) -> bool:
    """Return whether a file is a TorchScript archive: code, its constants and the weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):  # a file of another kind, or damaged: that is found when it is loaded
        return False


def _no_program(path: Path) -> WeightsError:
    """Return the error for a TorchScript archive, with what stands for it if it is one of OpenAI's CLIP, by its name."""
    same = _OF_CLIP.get(path.stem)
    remedy = f"use timm:{same}.openai, the same weights" if same else "use the state_dict of its network"
    what = "OpenAI's CLIP as a TorchScript archive" if same else "a TorchScript archive"
    return WeightsError(f"{path} is {what}, a program with its weights, which is not run; {remedy}")


def describe_others(others: tuple[str, ...]) -> str:
    """Return the names of classes and functions, the first ones and how many more there are."""
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return ", ".join(others[:_NAMED]) + more


def _other_globals(path: Path) -> tuple[str, ...]:
    """Return the classes and functions of a file that are no plain data; none for a damaged file and the format before 1.6."""
    try:
        found: list[str] = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # damaged files raise many types; loading them names the file
        return ()
    return tuple(sorted(found))
