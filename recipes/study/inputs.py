"""Owns what a run is made of beside its recipe and the run it starts from: files of weights and dense labels that it reads."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.files import is_there


def input_digests(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a digest of every file that a resolved recipe names, by its key; published weights are told by their name.

    A file that is not there (yet) has none: who runs what needs it is told so.
    """
    found = {}
    for key, find in (("init", _weights), ("token_labels.labels", _labels)):
        if isinstance(config.get(key), str):
            try:
                path = find(config[key])
                if path is not None:
                    found[key] = file_sha256(path)
            except OSError as error:
                raise UserError(
                    f"{key} = {config[key]}: cannot be read ({error.strerror or error}). Let this process read it."
                ) from error
    return found


def _weights(init: str) -> Path | None:
    from common.models.weight_files import local_weights

    return local_weights(init)


def _labels(folder: str) -> Path | None:
    """Return the file that says what the dense labels in a folder are of."""
    from common.data.token_labels.files import MANIFEST
    from common.paths import user_path

    path = user_path(folder, "token_labels.labels") / MANIFEST
    return path if is_there(path) else None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, which is read once as long as it stays as it is."""
    facts = path.stat()
    return _sha256(path.absolute(), facts.st_size, facts.st_mtime_ns)


@cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """Return the digest of a file of this size, last changed then."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
