"""Recipes: extends, key=value, all problems at once, with the words users meet."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from common.config import build, describe, flatten, load, resolve, to_mapping, to_yaml
from common.errors import UserError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
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


@dataclass(frozen=True, kw_only=True)
class Recipe:
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
    optim: OptimConfig = field(default_factory=OptimConfig)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_extends_and_overrides_come_in_order(tmp_path: Path) -> None:
    write(tmp_path, "base/a.yaml", "out: a\nepochs: 1\noptim: {lr: 1e-3, name: sgd}\n")
    middle = write(tmp_path, "b.yaml", "extends: base/a.yaml\nepochs: 2\noptim: {lr: 2e-3}\n")
    config = load(Recipe, middle, ["optim.lr=5e-4", "optim.betas=[0.8,0.9]", "optim.clip=none"])
    assert config == Recipe(out="a", epochs=2, optim=OptimConfig(name="sgd", lr=5e-4, betas=(0.8, 0.9)))


def test_every_problem_is_reported_at_once_with_the_nearest_name(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "r.yaml",
        "epochs: ten\nepoch: 3\ndeep: 1\nsizes: [1, x]\noptim: {name: adam, betas: [1], learning: 2}\n",
    )
    with pytest.raises(UserError) as error:
        load(Recipe, path)
    text = str(error.value)
    assert "8 problems in the recipe" in text
    for wanted in (
        "out: missing. Set it to text. Run folder.",
        "epochs = 'ten': must be a whole number, this is text.",
        "epoch: unknown key. Did you mean epochs?",
        "deep = 1: must be true or false, this is a whole number.",
        "sizes[1] = 'x': must be a whole number",
        "optim.name = 'adam': must be one of adamw, sgd. Did you mean adamw?",
        "optim.betas = [1]: needs 2 values, has 1.",
        "optim.learning: unknown key.",
    ):
        assert wanted in text


def test_ranges_are_checked_once_the_types_are_right(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="optim.lr: -1.0 must be above 0"):
        load(Recipe, write(tmp_path, "r.yaml", "out: x\noptim: {lr: -1}\n"))


@pytest.mark.parametrize(("value", "expected"), [("1e-3", 1e-3), ("3", 3.0), ("0.5", 0.5)])
def test_numbers_are_numbers(tmp_path: Path, value: str, expected: float) -> None:
    assert load(Recipe, write(tmp_path, "r.yaml", f"out: x\noptim: {{lr: {value}}}\n")).optim.lr == expected


def test_a_config_written_out_reads_back_the_same(tmp_path: Path) -> None:
    config = Recipe(out="x", optim=OptimConfig(clip=0.3))
    assert load(Recipe, write(tmp_path, "r.yaml", to_yaml(config))) == config
    assert build(Recipe, to_mapping(config), source="memory") == config


def test_a_missing_recipe_names_the_ones_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "digits.yaml", "out: x\n")
    with pytest.raises(UserError, match=r"no such file. There are digits.yaml. Did you mean digits.yaml\?"):
        resolve(tmp_path / "digit.yaml")


def test_a_circle_of_recipes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "extends: b.yaml\n")
    with pytest.raises(UserError, match="extends itself"):
        resolve(write(tmp_path, "b.yaml", "extends: a.yaml\n"))


@pytest.mark.parametrize("text", ["a: [1\n", "- 1\n", "a: b: c\n"])
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="r.yaml"):
        resolve(write(tmp_path, "r.yaml", text))


def test_a_word_that_is_no_override_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="epochs3: an override is key=value"):
        resolve(write(tmp_path, "r.yaml", "out: x\n"), ["epochs3"])


def test_help_names_every_key_with_its_default_and_meaning() -> None:
    text = describe(Recipe)
    assert "out  (text; required)" in text
    assert "optim.clip  (a number or none; default none)\n      Largest norm." in text
    assert "deep  (true or false; default false)" in text
    assert "epochs  (a whole number; default 3)" in text


@dataclass(frozen=True, kw_only=True)
class WarmOptimConfig(OptimConfig):
    clip: float | None = 3.0
    """Largest norm, of a warm start."""
    warmup: int = 1
    """Epochs."""


def test_help_names_the_keys_that_a_section_inherits_and_overrides() -> None:
    text = describe(WarmOptimConfig)
    assert "lr  (a number; default 0.001)\n      Learning rate." in text
    assert "clip  (a number or none; default 3.0)\n      Largest norm, of a warm start." in text
    assert "warmup  (a whole number; default 1)\n      Epochs." in text


def test_flatten_gives_dotted_keys() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_a_key_of_two_kinds_takes_a_number_or_a_list() -> None:
    assert build(Recipe, {"out": "a", "size": 8}, source="r").size == 8
    assert build(Recipe, {"out": "a", "size": [8, 4]}, source="r").size == (8, 4)
    assert to_mapping(build(Recipe, {"out": "a", "size": [8, 4]}, source="r"))["size"] == [8, 4]
    with pytest.raises(UserError, match="size = .*needs 2 values, has 3"):
        build(Recipe, {"out": "a", "size": [8, 4, 2]}, source="r")
    with pytest.raises(UserError, match="size = 'wide': must be a whole number"):
        build(Recipe, {"out": "a", "size": "wide"}, source="r")
