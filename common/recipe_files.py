"""Recipe files: YAML with `extends`, then `key=value` overrides, merged into plain containers."""

import copy
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from common.errors import UserError, did_you_mean
from common.files import path_exists
from common.paths import user_path
from common.yaml_text import parse_override, parse_yaml, reason_of
from common.yaml_words import as_text, as_value


def resolve(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the recipe at `path`, merged with the recipes it extends and the `key=value` overrides, as plain containers.

    Scalars are as `common.yaml_text.parse_yaml` returns them: text, values, and words that have both.
    """
    return _merge(_with_extended(Path(path), ()), _parse_overrides(overrides))


def _with_extended(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Return the recipe at `path` merged over the recipe it extends; `seen` are the recipes that led to it."""
    user_path(str(path), "extends" if seen else "recipe")
    if path.resolve() in seen:
        raise UserError(f"extends: {path} extends itself through {', '.join(map(str, seen))}. Remove the cycle.")
    if not path_exists(path) or path.is_dir():
        subject = f"extends: {path}, set in {seen[-1]}" if seen else f"recipe {path}"
        reason = "this is a folder" if path.is_dir() else "no such file"
        raise UserError(f"{subject}: {reason}. {_list_recipes(path)}")
    try:
        recipe = _parse(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). Check its permissions and file system."
        ) from error
    except (
        Exception
    ) as error:  # the parser's own errors, and ValueError, OverflowError, RecursionError, ... for some inputs
        raise UserError(f"{path}: invalid YAML: {reason_of(error)}") from error
    if as_value(recipe) is None:  # an empty file
        return {}
    if not isinstance(recipe, dict):
        raise UserError(f"{path}: a recipe must be a mapping of keys to values.")
    recipe = dict(recipe)
    parent = recipe.pop("extends", None)
    if as_value(parent) is None:
        return recipe
    return _merge(_with_extended(path.parent / _file_name(parent), (*seen, path.resolve())), recipe)


@lru_cache(maxsize=64)
def _parse(content: bytes) -> Any:
    """Return a recipe's YAML as plain containers, which must not be modified; a plan resolves a recipe once for every run."""
    return parse_yaml(content.decode("utf-8"))


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Return `upper` merged over `lower`: mappings key by key; of any other two values, a list and a mapping too, `upper` wins."""
    merged = copy.deepcopy(lower)
    _merge_into(merged, upper)
    return merged


def _merge_into(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    """Merge `above` into `below`."""
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge_into(below[key], value)
        else:
            below[key] = value


def _file_name(word: Any) -> str:
    """Return the file that `extends` names, without a comment after it."""
    return as_value(word) if isinstance(as_value(word), str) else as_text(word)


def _list_recipes(path: Path) -> str:
    """Return a sentence that lists the YAML files in the folder of `path`."""
    found = sorted(file.name for file in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    if not found:
        return "Pass the path of a YAML file, for example recipes/digits/pretrain.yaml."
    return f"The folder has {', '.join(found)}.{did_you_mean(path.name, found)}"


def _parse_overrides(overrides: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Return `key=value` overrides as plain containers; dotted keys nest, values are YAML."""
    wrong = [override for override in overrides if "=" not in override or override.lstrip().startswith("=")]
    if wrong:
        raise UserError(f"{', '.join(wrong)}: an override must have the form key=value, for example optim.lr=1e-3.")
    tree: dict[str, Any] = {}
    for override in overrides:
        key, _, text = override.partition("=")
        *parents, last = key.strip().split(".")
        section = tree
        for name in parents:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise UserError(
                    f"{' '.join(overrides)[:500]}: invalid key=value: {name} is set to a value and to keys of its own."
                )
        _merge_into(section, {last: parse_override(text)})
    return tree
