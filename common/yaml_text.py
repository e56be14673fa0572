"""YAML of recipes and studies, read so that text stays text.

YAML reads an unquoted `1234_56` as a number and `no` as false. Which of them is meant depends on the type of the key, which the
parser does not know, so a scalar whose text is not that of its value is returned as a `Word`, which has both: a key whose type is
text takes the text as it was typed, every other key takes the value (`as_text`, `as_value`). Names of keys are always text.

Differences from YAML 1.1: `010` is ten and `12:30` is text, as in YAML 1.2; `1e-3` is a number; dates are text; a word may begin
with `*` where no alias can stand (`*.parquet`); for a key whose type is text a `#` begins a comment only if a space follows it
(`photos #1`); a key that appears twice is an error.
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from common.yaml_words import Unreadable, Word, as_value, scalar_value, values_of, word_of

_BEYOND_YAML = ("#", "*", "\t", "\ufeff")
"""Characters that may belong to words which YAML does not have, or that libyaml drops."""
_DEEP = (" " * 500, "- " * 200)
"""Indentation of so many levels that libyaml may overflow its stack."""
_BY_HAND = re.compile(r"^%|^ *\?(?= |$)|[&!]|[\[{](?![\]}])", re.MULTILINE)
"""What `dump_yaml` writes within words alone: directives, explicit keys, anchors, tags, and collections on one line."""
_TEXT_TAG = "tag:yaml.org,2002:str"
_END_OF_VALUE = "\0"
"""Separates the value from what a comment would be, inside a scanned scalar; YAML allows no such character."""


def parse_yaml(text: str) -> Any:
    """Return a YAML document as dicts with text as keys, lists, and scalars, some of them words.

    Raises:
        yaml.YAMLError: if it is not YAML, or a key appears twice in a mapping.
        ValueError, RecursionError: for numbers of thousands of digits and for thousands of nested lists.
    """
    return yaml.load(text, Loader=_TextLoader)


def parse_dumped(text: str) -> Any:
    """Return what `parse_yaml` returns, of text from `dump_yaml`, several times as fast: plans may have 100,000 lines."""
    return yaml.load(text, Loader=_DumpedLoader) if _is_as_dumped(text) else parse_yaml(text)


def _is_as_dumped(text: str) -> bool:
    """Return whether a text has only what `dump_yaml` writes: libyaml reads some other forms in another way."""
    if any(each in text for each in (*_BEYOND_YAML, *_DEEP)):
        return False
    for match in _BY_HAND.finditer(text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if not line.strip() or (line.endswith(" ") and line.rstrip().endswith(("-", ":"))):
            return False
    return True


def parse_override(text: str) -> Any:
    """Return the right side of `key=value`: a list, a mapping, a quoted text without its quotes, or a word as it was typed."""
    text = text.strip()
    begins = text[:1]
    if begins in ("&", "!"):
        return text
    try:
        value = parse_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return Word(text, Unreadable(text, reason_of(error))) if begins in ("[", "{") else text
    if isinstance(value, dict | list):
        return value if begins in ("[", "{") else text
    return value if begins in ("'", '"') else word_of(text, as_value(value))


def reason_of(error: Exception) -> str:
    """Return on one line why YAML could not be read."""
    return " ".join(str(error).split()).replace('in "<unicode string>", ', "in ")[:500] or type(error).__name__


def read_yaml(text: str) -> Any:
    """Return a YAML document as `parse_yaml`, with every word replaced by its value."""
    return values_of(parse_yaml(text))


def read_dumped(text: str) -> Any:
    """Return content of `dump_yaml` as `parse_dumped`, with every word replaced by its value."""
    return values_of(parse_dumped(text))


def dump_yaml(content: Any, *, width: int = 120) -> str:
    """Return plain dicts, lists and scalars as YAML, with lists and mappings in block style and keys in order.

    Words stand as they were typed, and text that would be read as a word is quoted, so that `parse_yaml` returns the same content.
    """
    text: str = yaml.dump(content, Dumper=_TextDumper, sort_keys=False, allow_unicode=True, width=width)
    return text


class _Words:
    """What a loader makes of YAML's nodes: text, values, words."""

    yaml_implicit_resolvers = {
        "<": [(tag, pattern) for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers["<"] if tag.endswith("merge")]
    }

    def construct_word(self, node: yaml.ScalarNode) -> Any:
        """Return a scalar: quoted text, or a word."""
        if not isinstance(node, yaml.ScalarNode):
            raise ConstructorError(None, None, "expected a word, but found a list or a mapping", node.start_mark)
        if node.style:  # none or empty for a scalar without quotes
            return node.value
        value, _, rest = node.value.partition(_END_OF_VALUE)
        return word_of(value + rest, scalar_value(value))

    yaml_constructors = {**yaml.SafeLoader.yaml_constructors, _TEXT_TAG: construct_word}

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return the content of a node; raise ConstructorError for one that contains itself."""
        return super().construct_object(node, deep=True)  # type: ignore[misc]

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping with text as keys.

        Raises:
            ConstructorError: if a key is not a scalar or appears twice.
        """
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                is_word = isinstance(key, yaml.ScalarNode)
                if not is_word or key.value in seen:
                    problem = f"the key {key.value} appears twice" if is_word else "a key is not a word"
                    raise ConstructorError("while reading a mapping", node.start_mark, problem, key.start_mark)
                if not key.tag.endswith("merge"):
                    seen.add(key.value)
            self.flatten_mapping(node)  # type: ignore[attr-defined]
        else:
            raise ConstructorError(None, None, "expected a mapping, but found something else", node.start_mark)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


class _TextLoader(_Words, yaml.SafeLoader):
    """The loader of `parse_yaml`."""

    def scan_to_next_token(self) -> None:
        """Skip spaces, comments and line breaks; between the tokens of a line also tabs, as libyaml does."""
        super().scan_to_next_token()  # type: ignore[no-untyped-call]
        while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
            self.forward()
            super().scan_to_next_token()  # type: ignore[no-untyped-call]

    def fetch_alias(self) -> None:
        """Scan `*name`; a `*` that no name follows begins a word."""
        following = self.peek(1)
        if following.isalnum() or following in "-_":
            super().fetch_alias()  # type: ignore[no-untyped-call]
        else:
            self.fetch_plain()  # type: ignore[no-untyped-call]

    def scan_plain(self) -> yaml.ScalarToken:
        """Scan an unquoted scalar; add to it, after a separator, what follows a `#` that no space follows."""
        token = super().scan_plain()  # type: ignore[no-untyped-call]
        begins = self.peek() == "#" and token.end_mark.line == self.line and not self.flow_level
        if begins and self.peek(1) not in " \t\r\n\0":
            gap = self.column - token.end_mark.column
            length = next(count for count in range(2**31) if self.peek(count) in "\r\n\0\x85\u2028\u2029")
            rest = re.split(r"\s+#(?=\s|$)", self.prefix(length))[0].rstrip()
            token.value = f"{token.value}{_END_OF_VALUE}{' ' * gap}{rest}"
            self.forward(length)
        return token


_LIBYAML: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader with libyaml's scanner and parser, where PyYAML has it."""


class _DumpedLoader(_Words, _LIBYAML):  # type: ignore[misc, valid-type]
    """The loader of `parse_dumped`."""


def _reads_back(word: Word) -> bool:
    """Return whether a word without quotes is read as the same word; not every one of the command line is."""
    try:
        (found,) = parse_yaml(f"- {word}\n")
    except (yaml.YAMLError, ValueError, RecursionError):
        return False
    return type(found) is Word and found == word and repr(found.value) == repr(word.value)


def _is_plainly_text(text: str) -> bool:
    """Return whether text without quotes is read as the same text."""
    try:
        return scalar_value(text) is text and not re.search("[\x85\u2028\u2029]", text)
    except ValueError:  # a number of thousands of digits
        return False


class _TextDumper(yaml.SafeDumper):
    """The dumper of `dump_yaml`."""

    def represent_text(self, text: str) -> yaml.Node:
        """Return text as a scalar: a word as it was typed, other text in quotes if it would be read as something else."""
        if isinstance(text, Word):
            if _reads_back(text):
                return yaml.ScalarNode(self.resolve(yaml.ScalarNode, str(text), (True, False)), text)  # type: ignore[no-untyped-call]
            if not isinstance(text.value, str | Unreadable):
                return self.represent_data(text.value)
            text = str(text)
        return self.represent_scalar(_TEXT_TAG, text, style=None if _is_plainly_text(text) else '"')

    def choose_scalar_style(self) -> Any:
        """Return the style of the current scalar: none for a word."""
        return "" if isinstance(self.event.value, Word) else super().choose_scalar_style()  # type: ignore

    def write_plain(self, text: str, split: bool = True) -> None:
        """Write a scalar without quotes; a word is not broken over lines."""
        super().write_plain(text, split and not isinstance(text, Word))  # type: ignore[no-untyped-call]


_TextDumper.add_representer(str, _TextDumper.represent_text)
_TextDumper.add_representer(Word, _TextDumper.represent_text)
