"""Tensors of a checkpoint of torch.distributed.checkpoint (a folder of .distcp files), read without executing code from it."""

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem as of_files
from torch.distributed.checkpoint import metadata as of_metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from common.errors import quoted
from common.files import path_exists
from common.models.sharded_weights import METADATA_FILE
from common.models.weights_error import WeightsError

_CLASSES: dict[tuple[str, str], Any] = {
    **{
        (of_metadata.__name__, name): getattr(of_metadata, name)
        for name in (
            *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta"),
            *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
        )
    },
    **{(of_files.__name__, name): getattr(of_files, name) for name in ("_StorageInfo", "_StoragePrefix")},
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    ("collections", "OrderedDict"): OrderedDict,
}
"""What the metadata consist of, beside the types of tensors: nothing else of a pickle is looked up."""


_PATHS = tuple(
    (module, name) for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath", "PurePosixPath")
)
"""Classes of the path that the checkpoint was written to, which is among its metadata."""


class _Unpickler(pickle.Unpickler):
    """Unpickler of metadata, which refuses every class that does not belong to them."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class of the metadata, or a type of tensors; raise UnpicklingError for anything else."""
        if (module, name) in _CLASSES:
            return _CLASSES[module, name]
        if (module, name) in _PATHS:
            return _path_as_text
        found = getattr(torch, name, None) if module == "torch" else None
        if not isinstance(found, torch.dtype):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of the metadata of tensors")
        return found


def _path_as_text(*parts: str) -> str:
    """Return a path of any system as text."""
    return "/".join(parts)


class _TensorReader(of_files.FileSystemReader):
    """Reader of a checkpoint whose metadata are read already."""

    def __init__(self, folder: Path, found: Metadata) -> None:
        super().__init__(folder)
        self.found = found

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the metadata."""
        return self.found


def read_distributed(metadata: Path) -> dict[str, Any]:
    """Return the tensors of the checkpoint with this file of metadata, nested as they were saved; other entries are not read.

    Raise WeightsError for one that is damaged, contains more than tensors and plain data, or lacks a file; OSError if the system
    cannot read it.
    """
    tensors: dict[str, Any] = {}
    try:
        found = _read_metadata(metadata)
        names = {str(each.relative_path) for each in found.storage_data.values()}
        if missing := sorted(name for name in names if not path_exists(metadata.with_name(name))):
            raise WeightsError(
                f"{metadata.parent} lacks {len(missing)} of the {len(names)} files that its {METADATA_FILE} names:"
                f" {quoted(missing, limit=3)}; copy the files of all processes into this folder"
            )
        planner = _EmptyStateDictLoadPlanner()  # type: ignore[no-untyped-call]
        reader = _TensorReader(metadata.parent, found)
        _load_state_dict(tensors, storage_reader=reader, planner=planner, no_dist=True)
    except (WeightsError, OSError):
        raise
    except (Exception, CheckpointException) as error:  # damaged files raise many types; this one is no Exception
        cause = _cause_of(error)
        if isinstance(cause, OSError):
            raise cause from error
        raise WeightsError(
            f"{metadata.parent} cannot be read as a checkpoint of torch.distributed.checkpoint: it is damaged, or contains"
            f" more than tensors ({type(cause).__name__}: {' '.join(str(cause).split())[:200]}); copy it again, or convert it to"
            " safetensors"
        ) from error
    return tensors


def _cause_of(error: BaseException) -> BaseException:
    """Return the error of the only process that an error of torch.distributed.checkpoint wraps, or the error itself."""
    failures = error.failures.values() if isinstance(error, CheckpointException) else ()
    return next((cause for cause, _ in failures), error)


def _read_metadata(path: Path) -> Metadata:
    """Return the metadata of the tensors of a checkpoint; other entries, which are pickles themselves, are left out."""
    with path.open("rb") as file:
        found = _Unpickler(file).load()
    if not isinstance(found, Metadata):
        raise pickle.UnpicklingError(f"{type(found).__name__} instead of Metadata")
    entries = found.state_dict_metadata.items()
    found.state_dict_metadata = {name: each for name, each in entries if isinstance(each, TensorStorageMetadata)}
    found.storage_data = {at: each for at, each in found.storage_data.items() if at.fqn in found.state_dict_metadata}
    found.storage_meta = StorageMeta()
    return found
