"""Scalars of YAML that keep both their text and their value; `yaml_text` reads and writes them."""

import re
from dataclasses import dataclass
from typing import Any

_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLS = {
    spelling: value
    for words, value in (("true yes on", True), ("false no off", False))
    for word in words.split()
    for spelling in (word, word.title(), word.upper())
}
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_PREFIXED_INTEGER = re.compile(r"[-+]?0(?:x[0-9a-fA-F_]+|o[0-7_]+|b[01_]+)")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_SPECIAL_FLOAT = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class Word(str):
    """A scalar without quotes whose text is not that of its value: the text as it was typed, and the value."""

    value: Any

    def __new__(cls, text: str, value: Any) -> "Word":
        """Return a word of a text and the value that YAML reads from it."""
        word = super().__new__(cls, text)
        word.value = value
        return word

    def __getnewargs__(self) -> tuple[str, Any]:  # type: ignore[override]
        """Return the arguments of `__new__`, for copies."""
        return str(self), self.value


@dataclass(frozen=True)
class Unreadable:
    """Value of a word that begins like a list or a mapping but is none: its text, and the reason."""

    text: str
    reason: str

    def __repr__(self) -> str:
        """Return the text in quotes, as of a word."""
        return repr(self.text)


def values_of(content: Any) -> Any:
    """Return content of `parse_yaml` with every word replaced by its value."""
    if isinstance(content, dict):
        return {key: values_of(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [values_of(value) for value in content]
    return as_value(content)


def as_value(scalar: Any) -> Any:
    """Return the value of a scalar."""
    return scalar.value if isinstance(scalar, Word) else scalar


def as_text(scalar: Any) -> str:
    """Return the text of a scalar as it was typed."""
    if isinstance(scalar, str):
        return str(scalar)
    return _canonical_text(scalar)


def word_of(text: str, value: Any) -> Any:
    """Return a value if its text is `text`, otherwise the word of both."""
    return value if _canonical_text(value) == text else Word(text, value)


def _canonical_text(value: Any) -> str:
    """Return the text that stands for a value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)


def scalar_value(text: str) -> Any:
    """Return the value of an unquoted scalar: none, a boolean, a number, or the text itself."""
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if _PREFIXED_INTEGER.fullmatch(text):
        return int(text.replace("_", ""), 0)
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    if _SPECIAL_FLOAT.fullmatch(text):
        return float(text.replace(".", ""))
    return text
