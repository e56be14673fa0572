"""Columns of local tables whose types Hugging Face datasets does not have: they are left out, and the others read."""

import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)


def schema_of(path: Path) -> Any:
    """Return the Arrow schema of a table."""
    import pyarrow
    import pyarrow.parquet

    if path.suffix.lower() == ".parquet":
        return pyarrow.parquet.read_schema(path)
    with pyarrow.memory_map(str(path)) as mapped:
        is_file = mapped.read(6) == b"ARROW1"
        mapped.seek(0)
        return (pyarrow.ipc.open_file if is_file else pyarrow.ipc.open_stream)(mapped).schema


def features_of(schema: Any) -> Any:
    """Return the features of the columns of an Arrow schema, without those of types that the library does not have."""
    import datasets

    for name in unread_columns(schema):
        schema = schema.remove(schema.get_field_index(name))
    return datasets.Features.from_arrow_schema(schema)


def unread_columns(schema: Any) -> dict[str, str]:
    """Return the columns of types that the library does not have, such as maps and UUIDs, with the types."""
    return {field.name: str(field.type) for field in schema if not _is_read(field.type)}


@cache
def _is_read(kind: Any) -> bool:
    """Return whether the library has a type of Arrow; cached, because the files of a table have the same few."""
    import datasets
    import pyarrow

    try:
        datasets.Features.from_arrow_schema(pyarrow.schema([("column", kind)]))
    except (pyarrow.ArrowException, ValueError, TypeError, NotImplementedError):
        return False
    return True


def log_unread_columns(title: str, files: Sequence[Path]) -> None:
    """Log which columns of parquet files are not read for their types."""
    unread: dict[str, str] = {}
    for path in files:
        unread |= unread_columns(schema_of(path)) if path.suffix.lower() == ".parquet" else {}
    if unread:
        named = ", ".join(f"'{name}' ({kind})" for name, kind in unread.items())
        _log.info("data: not read of %s, for their types: %s", title, named)


def columns_to_read(path: Path) -> dict[str, Any]:
    """Return the options of the library that leave out what it cannot read of a parquet file; none where it reads all columns."""
    if path.suffix.lower() != ".parquet" or not unread_columns(schema := schema_of(path)):
        return {}
    features = features_of(schema)
    return {"columns": list(features), "features": features}
