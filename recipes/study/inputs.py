"""Digests of the files that a run reads besides its recipe and the run it starts from: weights and token labels."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import path_exists


def input_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the SHA-256 of every file that a resolved recipe names, by key. Weights of the Hub have none: their name is enough.

    A file that does not exist (yet) has no digest; the run that needs it reports that it is missing.
    """
    digests = {}
    for key, find in (("init", _weights), ("token_labels.labels", _token_labels)):
        if isinstance(config.get(key), str):
            try:
                path = find(config[key])
                if path is not None:
                    digests[key] = weights_sha256(path, key)
            except OSError as error:
                raise UserError(
                    f"{key} = {config[key]}: cannot be read ({error.strerror or error}). Make it readable for this process."
                ) from error
    return digests


def _weights(init: str) -> Path | None:
    """Return the local file of weights, or None if there is none."""
    from common.models.weight_files import find_local_weights

    return find_local_weights(init)


def _token_labels(folder: str) -> Path | None:
    """Return the manifest of a folder of token labels, or None if there is none."""
    from common.data.token_labels.files import MANIFEST
    from common.paths import user_path

    path = user_path(folder, "token_labels.labels") / MANIFEST
    return path if path_exists(path) else None


def weights_sha256(path: Path, key: str = "init") -> str:
    """Return the SHA-256 of a file; that of one that lists several files of weights covers these, too.

    Raise WeightsError, which names the key, if one of them is missing.
    """
    from common.models.sharded_weights import files_of_weights
    from common.models.weights_error import naming_key

    with naming_key(key):
        files = files_of_weights(path)
    every = [file_sha256(each) for each in files]
    return every[0] if len(files) == 1 else hashlib.sha256("".join(every).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file; an unchanged file is read only once."""
    stat = path.stat()
    return _sha256(path.absolute(), stat.st_size, stat.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, mtime_ns: int) -> str:
    """Return the SHA-256 of a file of this size and modification time, which are part of the cache key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
