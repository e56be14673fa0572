"""Reading of lists of images and labels: CSV in the dialects that spreadsheets write, JSON lines, parquet."""

import io
import json
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Any

from common.data.images.formats import FIRST_BYTES, describe_other
from common.errors import UserError, quoted

_log = logging.getLogger(__name__)

_INTEGER = re.compile(r"-?(0|[1-9]\d*)")
_WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")
_SEPARATOR = re.compile(r"sep=(.)\r?\n")
"""First line of a file for Excel."""
_DELIMITERS = ",;\t|"
_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")


def read_list(path: Path) -> Any:
    """Return the pyarrow table in a file; text and whole numbers as in the file, other words never taken for missing values.

    Raise UserError if the file cannot be read.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        if path.suffix.lower() in _SPREADSHEETS:
            raise ValueError("it is a spreadsheet. Save it as CSV")
        with path.open("rb") as file:
            other = describe_other(file.read(FIRST_BYTES))
        if other is not None and path.suffix.lower() != ".parquet":
            raise ValueError(f"it is {other[0].partition(',')[0]}. {other[1].rstrip('.')}")
        if path.suffix.lower() == ".parquet":
            table = pyarrow.parquet.ParquetFile(path).read()
        elif path.suffix.lower() in (".json", ".jsonl"):
            table = _read_json(_decode(path))
        else:
            table = _read_csv(_decode(path))
    except (pyarrow.ArrowException, OSError, ValueError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(
            f"data.source: the metadata file {path} cannot be read ({reason}). Correct it, or set data.kind=class_folders, without"
            " data.metadata_file, to read the folders alone."
        ) from error
    if twice := [name for name, count in Counter(table.column_names).items() if count > 1]:
        raise UserError(
            f"data.source: the metadata file {path} has two columns called {quoted(twice)}. Rename one of them."
        )
    return table


def _decode(path: Path) -> str:
    """Return the text of a file: UTF-8 or UTF-16 with or without a byte-order mark, else Windows-1252, which is logged."""
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        _log.warning("data: %s is not UTF-8 and is read as Windows-1252", path)
        return data.decode("cp1252", "replace")


def _read_json(text: str) -> Any:
    """Return the table of JSON lines, or of a JSON list of objects; columns of numbers and texts become texts."""
    import pyarrow

    rows = (
        json.loads(text)
        if text.lstrip().startswith("[")
        else [json.loads(line) for line in text.split("\n") if line.strip()]
    )
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("not every line is an object, {...}")
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pyarrow.array(values)
        except (pyarrow.ArrowException, TypeError) as error:
            if any(isinstance(value, dict | list) for value in values):
                raise ValueError(f"the column '{name}' has values of different types: {error}") from error
            columns[name] = pyarrow.array([None if value is None else str(value) for value in values])
    return pyarrow.table(columns)


def _read_csv(text: str) -> Any:
    """Return the table of a CSV file: columns of whole numbers become integers, blank cells are missing values.

    Spaces around values and names do not count. Columns without a name are called as pandas calls them, or are left out if they are
    empty.
    """
    import pyarrow
    from pyarrow import csv

    if separator := _SEPARATOR.match(text):
        text = text[separator.end() :]
    header = text.partition("\n")[0]
    delimiter = separator.group(1) if separator else max(_DELIMITERS, key=header.count)
    parsing = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    data = text.encode()
    names = csv.open_csv(io.BytesIO(data), parse_options=parsing).schema.names
    table = csv.read_csv(
        io.BytesIO(data),
        parse_options=parsing,
        convert_options=csv.ConvertOptions(
            column_types=dict.fromkeys(names, pyarrow.string()), strings_can_be_null=True, null_values=[""]
        ),
    )
    columns, kept = [], []
    for index, name in enumerate(table.column_names):
        column = table.column(index)
        if name.strip() or column.null_count < len(column):
            columns.append(_convert(column))
            kept.append(name.strip() or f"Unnamed: {index}")
    return pyarrow.Table.from_arrays(columns, names=kept)


def _convert(column: Any) -> Any:
    """Return a column of text without the spaces around it, as whole numbers if all are; blanks are missing values."""
    import pyarrow

    values = [None if value is None else value.strip() or None for value in column.to_pylist()]
    whole = [None if value is None else _WHOLE_FLOAT.sub(r"\1", value) for value in values]
    present = [value for value in whole if value is not None]
    if present and all(map(_INTEGER.fullmatch, present)) and all(abs(int(value)) < 2**63 for value in present):
        return pyarrow.array([None if value is None else int(value) for value in whole], pyarrow.int64())
    return pyarrow.array(values, pyarrow.string())
