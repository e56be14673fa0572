"""Opening of datasets of the Hugging Face Hub: downloaded, or from the cache where the Hub cannot be reached."""

import logging
import re
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from common.data.sources.local_tables import load_explained
from common.data.sources.tables import Shard, TableOptions, TableSource
from common.errors import UserError, quoted
from common.servers import why_unreachable, without_requests

_log = logging.getLogger(__name__)

_COMMIT = re.compile(r"[0-9a-f]{40}")
_CONFIGURATIONS = re.compile(r"(?:available configs|configurations in the cache)[^:\n]*:(.+)", re.IGNORECASE)
"""Where the library lists the configurations, one of which must be named."""


def open_hub_dataset(name: str, options: TableOptions, *, config_name: str | None, revision: str | None) -> TableSource:
    """Open a dataset of the Hugging Face Hub at a revision; the first call downloads it into the cache.

    Where the Hub cannot be reached, the cache alone is used at once.
    """
    import datasets.config
    from huggingface_hub import constants

    title = f"the Hub dataset {name}" + (f" at revision {revision}" if revision else "")
    is_offline = constants.HF_HUB_OFFLINE or datasets.config.HF_HUB_OFFLINE
    unreachable = None if is_offline else why_unreachable(constants.ENDPOINT)
    remedy = (
        f" There is no local file or folder '{name}' either. Check the spelling, data.config_name and data.revision, and run"
        " `hf auth login` for a private dataset."
    )
    if unreachable is not None:
        remedy = f" {unreachable[0]}, so that only what is in the cache can be used.{remedy}"
    with nullcontext() if unreachable is None else without_requests():
        opened = dict(load_explained(title, lambda: _load(title, name, config_name, revision), remedy=remedy))
    if unreachable is not None or is_offline:
        _check_commit(title, opened, revision)
        _log.warning(
            "data.source: %s is taken from the cache%s", title, f", as {unreachable[0]}" if unreachable else ""
        )
    shards = {split: (Shard(f"{name} {split}", len(table), split),) for split, table in opened.items()}
    return TableSource(title, opened, shards, options, base=Path())


def _load(title: str, name: str, config_name: str | None, revision: str | None) -> Any:
    """Return a dataset as the library loads it; raise UserError where a key answers what it asks for."""
    import datasets

    try:
        return datasets.load_dataset(name, name=config_name, revision=revision)
    except (ValueError, RuntimeError) as error:
        text = str(error)
        if (found := _CONFIGURATIONS.search(text)) is not None:
            names = [part.strip(" '\"") for part in found[1].strip(" []").split(",")]
            first = text.partition("\n")[0].rstrip(".")
            listed = quoted(names, limit=20)
            if "in the cache" in found[0].lower():
                remedy = f"Without a connection data.config_name must be one of those in the cache: {listed}."
            else:
                remedy = f"Set data.config_name to one of its configurations: {listed}."
            raise UserError(f"data.source: {title} cannot be opened ({first}). {remedy}") from error
        if "scripts are no longer supported" in text:
            raise UserError(
                f"data.source: {title} is a script, which is not run. Set data.revision=refs/convert/parquet, where the Hub keeps"
                " the tables of many such datasets, or set data.source to a copy of it in files."
            ) from error
        raise


def _check_commit(title: str, opened: Mapping[str, Any], revision: str | None) -> None:
    """Raise UserError if a dataset was asked for at a commit, and its cached files are in the folder of another."""
    files = [Path(file["filename"]) for table in opened.values() for file in table.cache_files]
    if revision is None or not _COMMIT.fullmatch(revision) or not files:
        return
    if others := sorted({file.parent.name for file in files if _COMMIT.fullmatch(file.parent.name)} - {revision}):
        raise UserError(
            f"data.source: {title} is not in the cache, only the commit {others[0]}. Connect once, or set data.revision to that."
        )
