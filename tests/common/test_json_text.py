"""JSON without NaN and infinity: null where others read it, restored in checkpoints."""

import json
import math
import struct
from pathlib import Path

import pytest

from common.json_text import from_exact_json, to_exact_json, to_json

REPOSITORY = Path(__file__).resolve().parents[2]
VALUES = {
    "nan": math.nan,
    "list": [math.inf, (-math.inf, 0.1)],
    "text": "NaN",
    "none": None,
    "deep": {"nan": [math.nan]},
}


def strict(text: str) -> object:
    """Parse JSON as a parser that follows RFC 8259 does."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_are_not_finite_become_null() -> None:
    expected = {"nan": None, "list": [None, [None, 0.1]], "text": "NaN", "none": None, "deep": {"nan": [None]}}
    assert strict(to_json(VALUES)) == expected and strict(to_json(math.nan)) is None


def test_finite_values_are_written_as_json_dumps_does() -> None:
    value = {"b": [1, 0.1, "ü", True], "a": {}}
    assert to_json(value) == json.dumps(value) == to_exact_json(value)
    assert to_json(value, indent=2, ensure_ascii=False) == json.dumps(value, indent=2, ensure_ascii=False)


def test_exact_json_restores_every_number() -> None:
    text = to_exact_json(VALUES)
    strict(text)
    restored = from_exact_json(text)
    assert math.isnan(restored["nan"]) and math.isnan(restored["deep"]["nan"][0])
    assert restored["list"] == [math.inf, [-math.inf, 0.1]] and restored["text"] == "NaN"
    numbers = [0.1, -0.0, 5e-324, 1.7976931348623157e308, 1 / 3]
    assert [struct.pack("d", n) for n in from_exact_json(to_exact_json(numbers))] == [
        struct.pack("d", n) for n in numbers
    ]


def test_exact_json_reads_files_of_earlier_versions() -> None:
    restored = from_exact_json('{"lowest": Infinity, "last": NaN, "float": 1.0, "object": {"float": "x", "y": 1}}')
    assert restored["lowest"] == math.inf and math.isnan(restored["last"])
    assert restored["float"] == 1.0 and restored["object"] == {"float": "x", "y": 1}


@pytest.mark.parametrize("package", ["common", "pretrain", "finetune"])
def test_stages_write_json_by_one_function(package: str) -> None:
    files = [path for path in (REPOSITORY / package).rglob("*.py") if "json.dump" in path.read_text(encoding="utf-8")]
    assert [path.name for path in files] == (["json_text.py"] if package == "common" else [])
