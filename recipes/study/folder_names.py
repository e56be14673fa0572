"""Folder names of studies and runs: what a system cannot store or a shell misreads is replaced, long ones are shortened."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.paths import MAX_NAME_BYTES
from common.yaml_words import as_text

SHORTENED_BYTES = 200
"""Length of a name that was too long; some file systems that encrypt names, and archives, store fewer than 255 bytes."""


def folder_name(text: str, suffix: str = "") -> str:
    """Return a text as the name of one folder, followed by `suffix`; most texts are returned as they are.

    A slash, a character that is not printed and a leading dash or dot become underscores. A name that is too long keeps its
    beginning, and the suffix, such as a hash, in full.
    """
    name = re.sub(r"[/\x00-\x1f\x7f]+|^[-.]+|\s+$", "_", text)
    if len((name + suffix).encode("utf-8", "surrogateescape")) <= MAX_NAME_BYTES:
        return name + suffix
    return name.encode("utf-8", "surrogateescape")[: SHORTENED_BYTES - len(suffix)].decode("utf-8", "ignore") + suffix


def images_of_sized(mapping: Mapping[str, Any]) -> str:
    """Return the last part of the name of the images that a study is sized to: of a folder, a file or a data set of the hub.

    `mapping` is the study's file; an empty text is returned for a study that is not sized.
    """
    if mapping.get("size") is None and not mapping.get("sized_by"):
        return ""
    source = as_text(mapping.get("set", {}).get("data.source", ""))
    return Path(source.partition("?")[0] if "://" in source else source).resolve().name
