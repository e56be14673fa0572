"""Paths of keys: which texts name the same file or folder."""

import os
from pathlib import Path

import pytest

from common.errors import UserError
from common.paths import is_local, is_same_path, user_path, without_final_slash


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("photos", "photos/", True),
        ("photos", "./photos", True),
        ("photos", "link", True),
        ("photos", "other", False),
        ("photos", "missing", False),
        ("missing", "missing/", True),
        ("local-dir:photos", "photos", True),
        ("owner/name", "owner/name", True),
        ("digits", "./digits", False),
        ("digits", "digits/", False),
    ],
)
def test_same_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: str, other: str, expected: bool) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "other", "digits"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("photos")
    assert is_same_path(one, other) is is_same_path(other, one) is expected


def test_final_slash() -> None:
    assert [without_final_slash(text) for text in ("a/b//", "/", "digits/", "timm:x")] == [
        "a/b",
        "/",
        "digits/",
        "timm:x",
    ]


def test_bundled_data_and_names_are_not_local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert [is_local(text) for text in ("digits", "timm:vit", "owner/name", "./digits", "*.parquet")] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_path_that_is_no_text_is_refused() -> None:
    with pytest.raises(UserError, match="out = .*not valid UTF-8.*another path"):
        user_path(os.fsdecode(b"run-\xff"), "out")
