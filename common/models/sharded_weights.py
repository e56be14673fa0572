"""Weights in several files (shards), safetensors or of PyTorch, with an index, as transformers writes it.

The index says which tensor is in which file.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from common.errors import quoted
from common.files import path_exists
from common.models.pickled_tensors import PICKLES, read_pickled, refused
from common.models.weights_error import WeightsError
from common.tensor_files import SafetensorError, check_readable

INDEX_FILE = "model.safetensors.index.json"
PICKLED_INDEX_FILE = "pytorch_model.bin.index.json"
METADATA_FILE = ".metadata"
"""File that lists the tensors of a checkpoint of torch.distributed.checkpoint, which are in .distcp files beside it."""
_SUFFIXES = (".safetensors.index.json", ".bin.index.json")


def is_index(path: Path) -> bool:
    """Return whether a file is an index, by its name."""
    return path.name.endswith(_SUFFIXES)


def files_of_weights(path: Path) -> list[Path]:
    """Return the files that a file of weights stands for: itself, and those that an index or a checkpoint's metadata list.

    Raise WeightsError for a damaged index, and if a file is not there.
    """
    if is_index(path):
        _check_shards(path)
        return [path, *shards_of(path)]
    return [path, *sorted(path.parent.glob("*.distcp"))] if path.name == METADATA_FILE else [path]


def shards_of(index: Path) -> list[Path]:
    """Return the files that an index names, sorted; raise WeightsError if it is damaged."""
    return sorted({index.with_name(name) for name in _read_index(index).values()})


def read_sharded(index: Path) -> dict[str, Tensor]:
    """Return the tensors that an index names, from its shards; other tensors in these are not read.

    Raise WeightsError for a damaged index, and for a shard that is missing, incomplete or without one of its tensors; OSError if
    the system cannot read one.
    """
    _check_shards(index)
    names_by_shard: dict[str, list[str]] = {}
    for name, shard in _read_index(index).items():
        names_by_shard.setdefault(shard, []).append(name)
    tensors: dict[str, Tensor] = {}
    for shard, names in names_by_shard.items():
        path = index.with_name(shard)
        check_readable(path)
        found = _read_pickled_shard(path) if path.suffix in PICKLES else _read_shard(path, names)
        if absent := sorted(set(names) - found.keys()):
            raise WeightsError(
                f"{path} lacks {len(absent)} of the tensors that {index.name} says it has: {quoted(absent, limit=3)};"
                " copy all files of one version of these weights"
            )
        tensors |= {name: found[name] for name in names}
    return tensors


def _read_shard(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """Return those of the tensors that a safetensors file has."""
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in set(names).intersection(file.keys())}
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a complete safetensors file ({error}); copy it again") from error


def _read_pickled_shard(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file of PyTorch, without executing code from it."""
    content, others = read_pickled(path)
    if not isinstance(content, dict):
        raise refused(path, others)
    return {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def _read_index(index: Path) -> Mapping[str, str]:
    """Return the file name of the shard of every tensor; raise WeightsError if an index is damaged."""
    try:
        content = json.loads(index.read_text(encoding="utf-8"))
        shards = {str(name): str(shard) for name, shard in content["weight_map"].items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{index} is not an index of files of weights (no mapping `weight_map`: {error}); copy it again"
        ) from error
    files = sorted(set(shards.values()))
    if outside := [name for name in files if Path(name).name != name]:
        raise WeightsError(f"{index} names {quoted(outside, limit=3)}, which is not the name of a file beside it")
    return shards


def missing_shards(index: Path) -> list[str]:
    """Return the names of the files that an index names and that are not beside it; raise WeightsError if it is damaged."""
    return [path.name for path in shards_of(index) if not path_exists(path)]


def _check_shards(index: Path) -> None:
    """Raise WeightsError if a file that an index names is not beside it."""
    if missing := missing_shards(index):
        raise WeightsError(
            f"{index.parent} lacks {len(missing)} of the {len(shards_of(index))} files that {index.name} names:"
            f" {quoted(missing, limit=3)}; copy them beside it"
        )
