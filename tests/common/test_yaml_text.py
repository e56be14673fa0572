"""YAML where text stays text: words on the command line and in files, values, what is written reads back the same."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.config import Config, load, to_yaml
from common.errors import UserError
from common.yaml_text import dump_yaml, parse_dumped, parse_override, parse_yaml, read_dumped, read_yaml
from common.yaml_words import Word, as_text, as_value, values_of

WORDS = (
    "1234_56", "2024_05_01", "photos #1", "*.parquet", "010", "no", "1e3", "12:30", "56e1234", "on", "off", "0123", "2.10",
    "6250e12", "0123456", "1.10", "2024-05-01", "True", "yes", "0x10", "0b1", ".5", "1.", "+1", "1_000.5", "Off", "a: b", "- x",
    "x # y", "@x", "%x", "&a", "!x", "| x", "> x", "photos#1", "*", "${x}", "{a,b}.png", "[ab].png", "a\\b", "=", "a=b",
)  # fmt: skip
IN_FILES = [
    word
    for word in WORDS
    if word not in ("a: b", "- x", "x # y", "@x", "%x", "&a", "!x", "| x", "> x", "{a,b}.png", "[ab].png")
]
"""Words that YAML takes without quotes."""


class Section(Config):
    name: str = "a"
    """A name."""
    folder: str | None = None
    """A folder."""
    choice: str | tuple[str, ...] = "x"
    """One or several words."""
    pair: tuple[int, int] | None = None
    """Two whole numbers."""


class Recipe(Config):
    source: str
    """A name, a path or a pattern."""
    epochs: int = 1
    """A whole number."""
    rate: float = 0.5
    """A number."""
    deep: bool = False
    """A truth value."""
    data: Section = Section()


def described(content: Any) -> Any:
    """Return content with the type of every scalar, and the value of every word."""
    if isinstance(content, dict):
        return [(described(key), described(value)) for key, value in content.items()]
    if isinstance(content, list):
        return [described(value) for value in content]
    return type(content), repr(content), repr(as_value(content))


def write(folder: Path, text: str) -> Path:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("word", WORDS)
def test_text_on_the_command_line_is_taken_as_typed(tmp_path: Path, word: str) -> None:
    path = write(tmp_path, "source: x\n")
    config = load(Recipe, path, [f"source={word}", f"data.folder={word}", f"data.choice={word}"])
    assert (config.source, config.data.folder, config.data.choice) == (word, word, word)


@pytest.mark.parametrize("word", IN_FILES)
def test_text_in_a_recipe_is_taken_as_typed(tmp_path: Path, word: str) -> None:
    config = load(
        Recipe,
        write(tmp_path, f"source: {word}\ndata:\n  folder: {word}  # a comment\n  choice:\n  - {word}\n  - b\n"),
    )
    assert (config.source, config.data.folder, config.data.choice) == (word, word, (word, "b"))


@pytest.mark.parametrize("word", WORDS)
def test_quoted_text_is_the_text_in_the_quotes(tmp_path: Path, word: str) -> None:
    quoted = "'" + word + "'"
    path = write(tmp_path, f"source: {quoted}\n")
    assert load(Recipe, path).source == word
    assert load(Recipe, path, [f"source={quoted}"]).source == word


@pytest.mark.parametrize("word", WORDS)
def test_a_resolved_recipe_reads_back_the_same(tmp_path: Path, word: str) -> None:
    config = Recipe(source=word, data=Section(name=word, folder=word, choice=(word, "none")))
    assert load(Recipe, write(tmp_path, to_yaml(config))) == config


def test_two_words_never_become_one(tmp_path: Path) -> None:
    path = write(tmp_path, "source: x\n")
    assert len({load(Recipe, path, [f"source={word}"]).source for word in WORDS}) == len(WORDS)


@pytest.mark.parametrize(
    ("word", "value"),
    [("3", 3), ("1_000", 1000), ("010", 10), ("0x10", 16), ("+7", 7), ("3 # epochs", 3), ("-1", -1)],
)
def test_integers_are_read_as_such(tmp_path: Path, word: str, value: int) -> None:
    path = write(tmp_path, f"source: x\nepochs: {word}\n")
    assert load(Recipe, path).epochs == load(Recipe, path, [f"epochs={word}"]).epochs == value


@pytest.mark.parametrize(
    ("word", "value"), [("1e-3", 1e-3), ("5", 5.0), (".5", 0.5), ("1_0.5", 10.5), ("1.e2", 100.0), ("-2E+1", -20.0)]
)
def test_numbers_are_read_as_such(tmp_path: Path, word: str, value: float) -> None:
    path = write(tmp_path, f"source: x\nrate: {word}\n")
    assert load(Recipe, path).rate == load(Recipe, path, [f"rate={word}"]).rate == value


@pytest.mark.parametrize(("word", "value"), [("true", True), ("no", False), ("On", True), ("OFF", False)])
def test_truth_values_are_read_as_such(tmp_path: Path, word: str, value: bool) -> None:
    path = write(tmp_path, f"source: x\ndeep: {word}\n")
    assert load(Recipe, path).deep is load(Recipe, path, [f"deep={word}"]).deep is value


@pytest.mark.parametrize("word", ["none", "null", "~", ""])
def test_none_is_a_word_of_keys_that_take_none(tmp_path: Path, word: str) -> None:
    path = write(tmp_path, "source: x\ndata: {folder: x}\n")
    assert load(Recipe, path, [f"data.folder={word}"]).data.folder is None


@pytest.mark.parametrize("text", ["none #off", "none # off", "null #off", "~", "", "NULL"])
def test_none_in_a_recipe_may_have_a_comment(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, f"source: x\ndata:\n  folder: {text}\n")
    assert load(Recipe, path).data.folder is None
    path = write(tmp_path, "source: x\n")
    assert load(Recipe, path, [f"data.folder= {text}"]).data.folder is None


@pytest.mark.parametrize("text", ["''", "'null'", "'~'", '"NULL"'])
def test_quoted_text_is_not_none(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, f"source: x\ndata: {{folder: {text}}}\n")
    assert load(Recipe, path).data.folder == load(Recipe, path, [f"data.folder={text}"]).data.folder == text[1:-1]


@pytest.mark.parametrize("override", ["source=", "source= ", "source=~", "source=null"])
def test_a_required_text_must_not_be_empty(tmp_path: Path, override: str) -> None:
    """`out=$UNSET` must not run in the current folder."""
    with pytest.raises(UserError, match="source = None: must be a string, not none"):
        load(Recipe, write(tmp_path, "source: x\n"), [override])


@pytest.mark.parametrize("word", ["runs/a ", " runs/a", "runs/a\r", "\truns/a"])
def test_space_around_an_override_does_not_count(tmp_path: Path, word: str) -> None:
    assert load(Recipe, write(tmp_path, "source: x\n"), [f"source={word}"]).source == "runs/a"


def test_tabs_separate_tokens_as_in_libyaml(tmp_path: Path) -> None:
    config = load(Recipe, write(tmp_path, "source:\ta\t# c\nepochs: 2\t\ndata: {name:\tb}\n"))
    assert (config.source, config.epochs, config.data.name) == ("a", 2, "b")


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_recipe_sets_nothing(tmp_path: Path, text: str) -> None:
    assert load(Recipe, write(tmp_path, text), ["source=x"]).source == "x"


@pytest.mark.parametrize("text", ["extends:\n", "extends: ~\n", "extends: null #none\n"])
def test_extends_may_name_nothing(tmp_path: Path, text: str) -> None:
    assert load(Recipe, write(tmp_path, f"{text}source: x\n")).source == "x"


def test_extends_may_have_a_comment(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("source: x\n")
    assert load(Recipe, write(tmp_path, "extends: base.yaml #the base\n")).source == "x"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data={name: a, name: b}", "data = .*: must be a mapping of keys to values. YAML cannot read it: .*name appears twice"),
        ("data.pair=[1, 2", "data.pair = .*: must be a list of 2, each an integer. YAML cannot read it"),
        ("data.pair=[x, 99999999999999999999]", r"pair\[0\] = 'x': must be an integer.*\n.*pair\[1\] = 9+: must fit into 64 bits"),
        ("data.pair=3", "data.pair = 3: must be a list of 2, each an integer, not an integer"),
    ],
)  # fmt: skip
def test_lists_and_mappings_that_are_wrong_are_explained(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(Recipe, write(tmp_path, "source: x\n"), [override])


@pytest.mark.parametrize("word", ["12:30", "2024-05-01", "ten", "0o9", "1e"])
def test_other_words_are_no_numbers(tmp_path: Path, word: str) -> None:
    with pytest.raises(UserError, match="epochs = .*: must be an integer"):
        load(Recipe, write(tmp_path, "source: x\n"), [f"epochs={word}"])


@pytest.mark.parametrize(
    ("override", "message"),
    [("source=[a]", "must be a string, not a list. Put it in quotes"), ("source={a: 1}", "not a mapping")],
)
def test_collections_are_no_text(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(Recipe, write(tmp_path, "source: x\n"), [override])


def test_names_of_keys_are_text() -> None:
    text = "on: 1\noff: {no: 2, 1: 3, 1e3: 4, 010: 5}\n"
    assert read_yaml(text) == {"on": 1, "off": {"no": 2, "1": 3, "1e3": 4, "010": 5}}


@pytest.mark.parametrize("text", ["a: 1\na: 2\n", "a: {b: 1, b: 2}\n", "on: 1\n'on': 2\n", "? [1]\n: 2\n"])
def test_a_key_that_appears_twice_or_is_a_list_is_an_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="appears twice|not a word"):
        parse_yaml(text)


def test_anchors_and_merge_keys_work() -> None:
    assert read_yaml("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: [*x, '*x']\n") == {
        "a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}, "e": [{"b": 1, "c": 2}, "*x"],
    }  # fmt: skip


def test_a_comment_begins_with_a_space_after_its_sign() -> None:
    content = parse_yaml("a: x #1  # the first\nb: x # 1\nc: [x #1\n]\nd: 5 #peak\ne: #1\n")
    assert as_text(content["a"]) == "x #1" and values_of(content) == {"a": "x", "b": "x", "c": ["x"], "d": 5, "e": None}


def test_words_survive_copies() -> None:
    word = parse_override("010")
    assert isinstance(word, Word) and copy.deepcopy([word])[0].value == 10 and copy.copy(word) == "010"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.sampled_from(WORDS),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(WORDS), inner, max_size=3)
        ),
        max_leaves=8,
    )
)
def test_what_is_written_reads_back_the_same(content: Any) -> None:
    written = dump_yaml(content)
    assert read_yaml(written) == content
    assert described(parse_dumped(written)) == described(parse_yaml(written))


@pytest.mark.parametrize("word", ["010", "1.0e-3", "on", "~", ".inf", "2024_05_01", "photos #1", ""])
def test_words_are_written_as_typed(word: str) -> None:
    content = parse_yaml(f"a: {word}\nb:\n- {word}\n")
    again = parse_yaml(dump_yaml(content))
    assert again == content and [type(x) for x in (again["a"], again["b"][0])] == [Word, Word]
    assert repr(values_of(again)) == repr(values_of(content))


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}", "&a [[*a]]"])
def test_content_that_contains_itself_is_an_error(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match="recursive"):
        parse_yaml(text)
    assert parse_override(f"[{text}]") == f"[{text}]"


@pytest.mark.parametrize("word", [*WORDS, "[&a [*a]]", "{a: 1, a: 2}", "[1", "3 # epochs", "none # off", "~", "NULL"])
def test_words_of_the_command_line_read_back_the_same(word: str) -> None:
    """As text and, if that is not text, as value."""
    typed = parse_override(word)
    (again,) = parse_yaml(dump_yaml([typed]))
    if isinstance(as_value(typed), str):
        assert as_text(again) == as_text(typed) == word
    else:
        assert repr(as_value(again)) == repr(as_value(typed))


@pytest.mark.parametrize("word", IN_FILES)
def test_dumped_words_are_read_as_those_of_a_user(word: str) -> None:
    written = dump_yaml({"typed": parse_yaml(f"- {word}\n"), word: word})
    assert described(parse_dumped(written)) == described(parse_yaml(written))
    assert repr(read_dumped(written)) == repr(read_yaml(written))


@pytest.mark.parametrize(
    "text",
    ["a: [1", "a: 1\na: 2\n", "[1]: 2", "\0", "a: &a [*a]", "a: b: c", "- a\nb: 1\n", "a: !!str [1]", "a: !!map [1]"],
)
def test_damaged_content_is_the_same_kind_of_error_for_both(text: str) -> None:
    for parse in (parse_yaml, parse_dumped):
        with pytest.raises(yaml.YAMLError):
            parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "\n\ufeffb: 1",
        "a: {a: b?c}",
        "- [x?]",
        "a: {lr:, b: 1}",
        "%FOO 1\n---\na: 1",
        "a: &x 1\nb: *x",
        "a: photos #1",
        "? a\n: 1",
    ],
)
def test_what_is_written_by_hand_is_read_as_that_of_a_user(text: str) -> None:
    def read(parse: Callable[[str], Any]) -> Any:
        try:
            return described(parse(text))
        except yaml.YAMLError:
            return "an error"

    assert read(parse_dumped) == read(parse_yaml)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "a: " + "{a: " * 50_000, "- " * 50_000, "\n".join(" " * n + "a:" for n in range(3000))]
)
def test_thousands_of_levels_are_an_error_of_python(text: str) -> None:
    with pytest.raises((yaml.YAMLError, RecursionError)):
        parse_dumped(text)


def test_plans_are_parsed_by_libyaml_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yaml.scanner.Scanner.check_token", None)
    if yaml.__with_libyaml__:
        assert parse_dumped("a:\n- 1\n- no\n- x\n") == {"a": [1, "no", "x"]}
    else:
        pytest.skip("requires PyYAML with libyaml")
