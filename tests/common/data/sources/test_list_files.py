"""Lists of images in the dialects that programs write."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from common.data.sources.list_files import read_list
from common.errors import UserError

ROWS = {"file_name": ["1.png", "2.png"], "label": ["é", "b"]}


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("file_name,label\n1.png,é\n2.png,b\n", "utf-16"),
        ("file_name,label\n1.png,é\n2.png,b\n", "utf-8-sig"),
        ("file_name,label\n1.png,é\n2.png,b\n", "cp1252"),
        ("file_name|label\n1.png|é\n2.png|b\n", "utf-8"),
        ("sep=;\r\nfile_name;label\r\n1.png;é\r\n2.png;b\r\n", "utf-8"),
        ("file_name, label\n1.png, é \n2.png, b\n", "utf-8"),
        ("file_name,label,,\n1.png,é,,\n2.png,b,,\n", "utf-8"),
        ('file_name,label\r"1.png","é"\r"2.png","b"\r', "utf-8"),
    ],
    ids=["utf-16", "byte-order mark", "windows", "bars", "excel", "spaces", "empty columns", "carriage returns"],
)
def test_dialects_of_csv(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    assert read_list(tmp_path / "x.csv").to_pydict() == ROWS


def test_columns_without_a_name_are_called_as_pandas_calls_them(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(",file_name,label\n0,1.png,a\n1,2.png,b\n")
    assert read_list(tmp_path / "x.csv").column_names == ["Unnamed: 0", "file_name", "label"]


def test_json_lines_with_later_keys_separators_of_lines_in_texts_and_mixed_types(tmp_path: Path) -> None:
    rows = [
        {"file_name": "1.png"},
        {"file_name": "2.png", "label": 1, "text": "x\u2028y"},
        {"file_name": "3", "label": "b"},
    ]
    expected = {"file_name": ["1.png", "2.png", "3"], "label": [None, "1", "b"], "text": [None, "x\u2028y", None]}
    (tmp_path / "x.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    (tmp_path / "x.json").write_text(json.dumps(rows))
    assert read_list(tmp_path / "x.jsonl").to_pydict() == read_list(tmp_path / "x.json").to_pydict() == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"file_name,label,label\n1.png,a,b\n", "two columns called 'label'"),
        ("x.csv", b"version https://git-lfs.github.com/spec/v1\n", r"pointer of Git LFS\. Run `git lfs pull`"),
        ("x.xlsx", b"PK\3\4", "spreadsheet. Save it as CSV"),
        ("x.jsonl", b'{"file_name": "1.png"}\n[1]\n', "not every line is an object"),
        ("x.jsonl", b'{"a": [1]}\n{"a": "b"}\n', "the column 'a' has values of different types"),
        ("x.csv", b"a,b\n1,2,3\n", "Row #2: Expected 2 columns, got 3"),
    ],
)
def test_lists_that_cannot_be_read_are_named_with_the_reason(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*{message}"):
        read_list(tmp_path / name)


def test_two_columns_of_one_name_in_parquet(tmp_path: Path) -> None:
    table = pyarrow.Table.from_arrays(
        [pyarrow.array(["1.png"]), pyarrow.array([1]), pyarrow.array([2])], ["f", "l", "l"]
    )
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(UserError, match="two columns called 'l'"):
        read_list(tmp_path / "x.parquet")
