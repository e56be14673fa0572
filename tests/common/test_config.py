"""Recipes: `extends`, `key=value` overrides, all problems in one error, and the wording of error messages."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from common.config import Config, build, flatten, load, resolve, to_mapping, to_yaml
from common.config_help import describe
from common.errors import UserError


class OptimConfig(Config):
    name: Literal["adamw", "sgd"] = "adamw"
    """Which optimizer."""
    lr: float = 1e-3
    """Learning rate."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Averaging coefficients."""
    clip: float | None = None
    """Largest norm."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.lr <= 0:
            yield "lr", f"{self.lr} must be above 0."


class Recipe(Config):
    out: str
    """Run folder."""
    epochs: int = 3
    """Passes over the images."""
    sizes: tuple[int, ...] = (1, 2)
    """Sizes."""
    deep: bool = False
    """Whether it is deep."""
    size: int | tuple[int, int] = 4
    """Side, or height and width."""
    optim: OptimConfig = OptimConfig()


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_overrides_take_precedence_over_the_recipe_and_what_it_extends(tmp_path: Path) -> None:
    write(tmp_path, "base/a.yaml", "out: a\nepochs: 1\noptim: {lr: 1e-3, name: sgd}\n")
    middle = write(tmp_path, "b.yaml", "extends: base/a.yaml\nepochs: 2\noptim: {lr: 2e-3}\n")
    config = load(Recipe, middle, ["optim.lr=5e-4", "optim.betas=[0.8,0.9]", "optim.clip=none"])
    assert config == Recipe(out="a", epochs=2, optim=OptimConfig(name="sgd", lr=5e-4, betas=(0.8, 0.9)))


def test_all_problems_are_reported_in_one_error_with_the_nearest_name(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "r.yaml",
        "epochs: ten\nepoch: 3\ndeep: 1\nsizes: [1, x]\noptim: {name: adam, betas: [1], learning: 2}\n",
    )
    with pytest.raises(UserError) as error:
        load(Recipe, path)
    text = str(error.value)
    assert "8 problems in the recipe" in text
    for expected in (
        "out: missing. Set it to a string. Run folder.",
        "epochs = 'ten': must be an integer, not a string.",
        "epoch: unknown key. Did you mean epochs?",
        "deep = 1: must be true or false, not an integer.",
        "sizes[1] = 'x': must be an integer",
        "optim.name = 'adam': must be one of adamw, sgd. Did you mean adamw?",
        "optim.betas = [1]: must have 2 values, has 1.",
        "optim.learning: unknown key.",
    ):
        assert expected in text


def test_ranges_are_checked_once_the_types_are_right(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="optim.lr: -1.0 must be above 0"):
        load(Recipe, write(tmp_path, "r.yaml", "out: x\noptim: {lr: -1}\n"))


@pytest.mark.parametrize(("value", "expected"), [("1e-3", 1e-3), ("3", 3.0), ("0.5", 0.5)])
def test_numbers_are_parsed_as_floats(tmp_path: Path, value: str, expected: float) -> None:
    assert load(Recipe, write(tmp_path, "r.yaml", f"out: x\noptim: {{lr: {value}}}\n")).optim.lr == expected


def test_config_round_trips_through_yaml(tmp_path: Path) -> None:
    config = Recipe(out="x", optim=OptimConfig(clip=0.3))
    assert load(Recipe, write(tmp_path, "r.yaml", to_yaml(config))) == config
    assert build(Recipe, to_mapping(config), source="memory") == config


def test_missing_recipe_lists_the_recipes_in_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "digits.yaml", "out: x\n")
    with pytest.raises(UserError, match=r"no such file. The folder has digits.yaml. Did you mean digits.yaml\?"):
        resolve(tmp_path / "digit.yaml")


def test_cyclic_extends_is_rejected(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    with pytest.raises(UserError, match="extends itself"):
        resolve(write(tmp_path, "b.yaml", "extends: a.yaml\n"))


@pytest.mark.parametrize("text", ["a: [1\n", "- 1\n", "a: b: c\n", "[" * 3000, "a: " + "9" * 5000])
def test_invalid_recipe_file_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="r.yaml: "):
        resolve(write(tmp_path, "r.yaml", text))


def test_space_around_key_and_value_of_an_override_does_not_count(tmp_path: Path) -> None:
    path = write(tmp_path, "r.yaml", "out: x\n")
    assert load(Recipe, path, [" optim.lr = 2e-3 "]).optim.lr == 2e-3


def test_malformed_override_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="epochs3: an override must have the form key=value"):
        resolve(write(tmp_path, "r.yaml", "out: x\n"), ["epochs3"])


@pytest.mark.parametrize("override", ["epochs=" + "9" * 5000, "epochs=" + "[" * 3000, "epochs=2026-13-41"])
def test_unparsable_override_is_rejected(tmp_path: Path, override: str) -> None:
    with pytest.raises(UserError, match=r"invalid key=value|must be an integer"):
        load(Recipe, write(tmp_path, "r.yaml", "out: x\n"), [override])


def test_contradictory_overrides_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"optim=\[\] optim\.lr=1: invalid key=value"):
        load(Recipe, write(tmp_path, "r.yaml", "out: x\n"), ["optim=[]", "optim.lr=1"])


def test_help_lists_every_key_with_its_default_and_description() -> None:
    text = describe(Recipe)
    assert "out  (a string; required)" in text
    assert "optim.clip  (a number or none; default none)\n      Largest norm." in text
    assert "deep  (true or false; default false)" in text
    assert "epochs  (an integer; default 3)" in text


class WarmOptimConfig(OptimConfig):
    clip: float | None = 3.0
    """Largest norm of a warm start."""
    warmup: int = 1
    """Epochs."""


def test_help_lists_inherited_and_overridden_keys() -> None:
    text = describe(WarmOptimConfig)
    assert "lr  (a number; default 0.001)\n      Learning rate." in text
    assert "clip  (a number or none; default 3.0)\n      Largest norm of a warm start." in text
    assert "warmup  (an integer; default 1)\n      Epochs." in text


def test_flatten_returns_dotted_keys() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_union_key_accepts_a_number_or_a_list() -> None:
    assert build(Recipe, {"out": "a", "size": 8}, source="r").size == 8
    assert build(Recipe, {"out": "a", "size": [8, 4]}, source="r").size == (8, 4)
    assert to_mapping(build(Recipe, {"out": "a", "size": [8, 4]}, source="r"))["size"] == [8, 4]
    with pytest.raises(UserError, match="size = .*must have 2 values, has 3"):
        build(Recipe, {"out": "a", "size": [8, 4, 2]}, source="r")
    with pytest.raises(UserError, match="size = 'wide': must be an integer"):
        build(Recipe, {"out": "a", "size": "wide"}, source="r")


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        ("out: x\noptim: [1, 2]\n", (), "optim = [1, 2]: must be a mapping of keys to values"),
        ("out: x\n", ("optim.lr.more=1",), "optim.lr = {'more': 1}: must be a number"),
        ("out: x\noptim: {lr: [1]}\n", ("optim.lr={a: 1}",), "optim.lr = {'a': 1}: must be a number"),
    ],
)
def test_list_in_place_of_a_mapping_is_reported_under_its_key(
    tmp_path: Path, text: str, overrides: tuple[str, ...], expected: str
) -> None:
    write(tmp_path, "base.yaml", "out: y\noptim: {lr: 1}\n")
    with pytest.raises(UserError) as caught:
        load(Recipe, write(tmp_path, "r.yaml", f"extends: base.yaml\n{text}"), overrides)
    assert expected in str(caught.value)


def test_extending_recipe_replaces_a_list_with_a_mapping_and_vice_versa(tmp_path: Path) -> None:
    write(tmp_path, "base.yaml", "deep: {a: [1], b: {c: 2}, d: 3}\n")
    path = write(tmp_path, "r.yaml", "extends: base.yaml\ndeep: {a: {e: 4}, b: [5]}\n")
    assert resolve(path) == {"deep": {"a": {"e": 4}, "b": [5], "d": 3}}


@pytest.mark.parametrize("name", ["\\0", "x" * 300, "~nobody-by-this-name/r.yaml"])
def test_invalid_extends_path_is_rejected(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="extends"):
        resolve(write(tmp_path, "r.yaml", f'extends: "{name}"\n'))


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", str(10**400), str(2**64)])
def test_numbers_out_of_range_are_rejected(tmp_path: Path, value: str) -> None:
    with pytest.raises(UserError, match=r"optim\.lr = .*: must (be a finite number|fit into 64 bits)"):
        load(Recipe, write(tmp_path, "r.yaml", f"out: x\noptim: {{lr: {value}}}\n"))


@pytest.mark.parametrize("value", [str(2**63), str(-(2**63) - 1), "9" * 5000])
def test_integers_beyond_64_bits_are_rejected(tmp_path: Path, value: str) -> None:
    with pytest.raises(UserError):
        load(Recipe, write(tmp_path, "r.yaml", f"out: x\nepochs: {value}\n"))


def test_override_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "recipe.yaml", "epochs: 1\n")
    with pytest.raises(UserError, match="out=.*not valid UTF-8.*Rename"):
        load(Recipe, path, ["out=" + os.fsdecode(b"run-\xff")])
