"""Local parquet and arrow files, read where they lie: arrow files are mapped, small parquet files are read into memory.

Rows are read in random order, and a row of a parquet file costs its whole row group: 60 images/s on CIFAR-10, compared with about
20,000 decoded images/s from memory or from mapped arrow files. So larger parquet files are unpacked once into the cache of Hugging
Face datasets, which this module describes before it is written.
"""

import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from common.data.sources.column_types import features_of, schema_of
from common.errors import UserError, is_disk_error, os_error_of, quoted

_log = logging.getLogger(__name__)


class ParquetTable:
    """The rows of parquet files of one schema. A column is read when it is asked for and is not kept here."""

    def __init__(self, paths: Sequence[Path], features: Any, num_rows: int) -> None:
        self.features = features
        self._paths = tuple(paths)
        self._num_rows = num_rows

    @property
    def data(self) -> "ParquetTable":
        """Return what has the columns, as a dataset of the library does."""
        return self

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._num_rows

    def column(self, name: str) -> Any:
        """Return a column as a chunked Arrow array, of the type that its feature declares."""
        import pyarrow
        import pyarrow.parquet
        from datasets import Features
        from datasets.table import table_cast

        schema = Features({name: self.features[name]}).arrow_schema
        tables = [pyarrow.parquet.ParquetFile(path).read(columns=[name]) for path in self._paths]
        return pyarrow.concat_tables([table_cast(table, schema) for table in tables]).column(name)


def open_in_place(groups: Mapping[str, Sequence[Path]], *, limit_bytes: int) -> dict[str, Any] | None:
    """Return the splits of local tables without a copy of them, or None where that is slow or the schemas of a split differ.

    `limit_bytes` is the size up to which parquet files are read into memory.
    """
    import datasets
    import pyarrow

    files = [path for group in groups.values() for path in group]
    try:
        if files[0].suffix.lower() == ".arrow":
            mapped = {name: [datasets.Dataset.from_file(str(path)) for path in group] for name, group in groups.items()}
            if all(_all_equal([each.features for each in parts]) for parts in mapped.values()):
                return {name: datasets.concatenate_datasets(parts) for name, parts in mapped.items()}
            return None
        if unpacked_bytes(files) > limit_bytes:
            return None
        opened = {}
        for name, group in groups.items():  # the splits may have different columns: test images often have no labels
            readers = [pyarrow.parquet.ParquetFile(path) for path in group]
            features = [features_of(reader.schema_arrow) for reader in readers]
            if not _all_equal(features):
                return None
            opened[name] = ParquetTable(group, features[0], sum(reader.metadata.num_rows for reader in readers))
        return opened
    except (pyarrow.ArrowException, ValueError, TypeError, NotImplementedError):
        return None  # the library reports what is wrong with the files


def check_columns(groups: Mapping[str, Sequence[Path]]) -> None:
    """Raise UserError for files without or with twice the same column, and for files of a split that have different columns."""
    for name, paths in groups.items():
        schemas = [(path, schema_of(path)) for path in paths]
        for path, schema in schemas:
            if twice := [column for column, count in Counter(schema.names).items() if count > 1]:
                raise UserError(f"data.source: {path} has two columns called {quoted(twice)}. Rename one of them.")
            first_path, first = schemas[0]
            if different := sorted(set(first.names) ^ set(schema.names)):
                raise UserError(
                    f"data.source: {first_path} and {path} are of the split '{name}', but only one of them has {quoted(different)}."
                    " Give them the same columns, or set data.source to a folder with files of one kind."
                )


def check_path(path: Path, *, expands: bool = True, remedy: str = "") -> None:
    """Raise UserError for a path in which the library sees more: file systems chained by `::`, or variables (`expands`)."""
    text = str(path.absolute())
    sign = "::" if "::" in text else "$" if expands and os.path.expandvars(text) != text else None
    if sign is not None:
        raise UserError(
            f"data.source: Hugging Face datasets cannot open {text}: it does not take '{sign}' for a part of a name. Rename"
            f" what has it in its name, or set data.source to a link{remedy}."
        )


def have_same_columns(groups: Mapping[str, Sequence[Path]]) -> bool:
    """Return whether all splits have the same columns."""
    return _all_equal([set(schema_of(path).names) for paths in groups.values() for path in paths])


def _all_equal(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values[1:])


def unpacked_bytes(files: Sequence[Path]) -> int:
    """Return the size of tables in memory or in the cache: that of parquet files without their compression."""
    import pyarrow.parquet

    total = 0
    for path in files:
        if path.suffix.lower() != ".parquet":
            total += path.stat().st_size
            continue
        metadata = pyarrow.parquet.read_metadata(path)
        total += sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    return total


def load_with_cache(
    title: str,
    file_format: str,
    data_files: Mapping[str, Sequence[str]],
    *,
    num_bytes: int,
    unpack_to: Path | None = None,
    columns: Mapping[str, Any] = MappingProxyType({}),
) -> Any:
    """Return tables as a dataset in the library's cache, or in `unpack_to`; log where it is and its size before it is written.

    `columns` are those to be read, as options of the library (`columns_to_read`); none: all. Raise UserError if there is too little
    room.
    """
    import datasets

    cache_dir = None if unpack_to is None else str(unpack_to)
    builder = datasets.load_dataset_builder(file_format, data_files=data_files, cache_dir=cache_dir, **columns)
    folder = Path(builder.cache_dir)
    if not folder.is_dir():
        existing = next(parent for parent in folder.parents if parent.is_dir())
        free = shutil.disk_usage(existing).free
        words = (title, folder, _size(num_bytes), _size(free), existing)
        _log.info("data: %s is unpacked once into the cache %s: %s, of %s free on the disk of %s", *words)
        is_written = any(folder.parent.glob(f"{folder.name}*incomplete*"))  # by another process of this run
        if free < num_bytes and not is_written:
            setting = "HF_DATASETS_CACHE" if cache_dir is None else "data.stage_to"
            raise UserError(
                f"data.source: {title} is unpacked into the cache {folder}, which takes {_size(num_bytes)}, and its disk has"
                f" {_size(free)} free; nothing was written. Set {setting} to a folder with more room, or"
                f" data.cache_megabytes={num_bytes // 2**20 + 1} to read the table into memory instead."
            )
    return datasets.load_dataset(file_format, data_files=data_files, cache_dir=cache_dir, **columns)


def cache_error(title: str, error: BaseException, *, num_bytes: int | None = None) -> UserError | None:
    """Return the error about a cache of the library that cannot be written, or None if `error` is another one."""
    import datasets

    cause = os_error_of(error, is_disk_error)
    if cause is None:
        return None
    room = f" with room for {_size(num_bytes)}" if num_bytes else ""
    memory = f", or data.cache_megabytes={num_bytes // 2**20 + 1} to read it into memory" if num_bytes else ""
    return UserError(
        f"data.source: {title} is stored in the cache of Hugging Face datasets, {datasets.config.HF_DATASETS_CACHE}, which cannot"
        f" be written ({cause.strerror or cause}). Set HF_HOME or HF_DATASETS_CACHE to a folder{room}{memory}."
    )


def _size(num_bytes: int) -> str:
    """Return a size in readable units."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{max(num_bytes / 1e6, 0.1):.1f} MB"


def load_explained(title: str, load: Callable[[], Any], *, remedy: str = "", num_bytes: int | None = None) -> Any:
    """Return `load()`; convert an exception of any class into UserError with the first line of its message.

    `num_bytes` is the size of the cache that it writes, if that is known.
    """
    try:
        return load()
    except UserError:
        raise
    except Exception as error:
        if (problem := cache_error(title, error, num_bytes=num_bytes)) is not None:
            raise problem from error
        cause = _first_cause(error)
        reason = (str(cause).strip().splitlines() or [""])[0].rstrip(".")
        raise UserError(f"data.source: {title} cannot be opened ({type(cause).__name__}: {reason}).{remedy}") from error


def _first_cause(error: BaseException) -> BaseException:
    """Return the error from which the library raised one of its own that hides the reason."""
    while type(error).__name__.startswith("DatasetGeneration") and (cause := error.__cause__ or error.__context__):
        error = cause
    return error
