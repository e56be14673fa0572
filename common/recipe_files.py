"""Owns the reading of recipes: YAML that may extend another, `key=value` on top, merged by OmegaConf to plain containers."""

import difflib
import typing
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from common.errors import UserError
from common.files import is_there
from common.paths import user_path


def resolve(path: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the recipe at `path` with everything it extends and every `key=value` merged in, as plain containers."""
    try:
        merged = _merge(_with_extended(Path(path), ()), _parse_overrides(overrides))
        container = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {_first_line(error)}") from error
    return typing.cast(dict[str, Any], container)


def nearest(name: str, choices: list[str]) -> str:
    """Return ` Did you mean X?` for the choice closest to `name`, or nothing."""
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""


def _with_extended(path: Path, seen: tuple[Path, ...]) -> Any:
    """Return the recipe at `path` merged over the one it extends, read from the first to the last."""
    user_path(str(path), "extends" if seen else "recipe")
    if path.resolve() in seen:
        raise UserError(f"extends: {path} extends itself, by way of {', '.join(map(str, seen))}. Break the circle.")
    if not is_there(path) or path.is_dir():
        wanted = f"extends: {path}, named in {seen[-1]}" if seen else f"recipe {path}"
        raise UserError(f"{wanted}: {'this is a folder' if path.is_dir() else 'no such file'}. {_recipes_beside(path)}")
    try:
        node = OmegaConf.load(path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). Let this process read it (rights, file system)."
        ) from error
    except Exception as error:  # a parser's own errors, and ValueError, OverflowError, RecursionError, ... of its input
        raise UserError(f"{path}: not readable as YAML: {' '.join(str(error).split())[:500]}") from error
    if not OmegaConf.is_dict(node):
        raise UserError(f"{path}: a recipe is a mapping of keys to values, this file is not one.")
    parent = typing.cast(Any, node).pop("extends", None)
    if parent is None:
        return node
    return _merge(_with_extended(path.parent / str(parent), (*seen, path.resolve())), node)


def _merge(lower: Any, upper: Any) -> Any:
    """Return `upper` merged over `lower`; where a list meets a mapping, which do not merge, the upper one is taken."""
    below, above = (OmegaConf.to_container(node, resolve=False) for node in (lower, upper))
    _drop_other_kinds(below, above)
    return OmegaConf.merge(below, above)


def _drop_other_kinds(below: Any, above: Any) -> None:
    """Drop the keys of `below` whose value is a list where that of `above` is a mapping, or the other way round."""
    for key in below.keys() & above.keys():
        kinds = isinstance(below[key], dict), isinstance(above[key], dict)
        if all(kinds):
            _drop_other_kinds(below[key], above[key])
        elif any(kinds):
            del below[key]


def _recipes_beside(path: Path) -> str:
    """Return a sentence that names the YAML files where `path` was looked for."""
    found = sorted(file.name for file in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    if not found:
        return "Give the path of a YAML file, such as recipes/digits/pretrain.yaml."
    return f"There are {', '.join(found)}.{nearest(path.name, found)}"


def _parse_overrides(overrides: list[str] | tuple[str, ...]) -> Any:
    """Return `key=value` words as a config; dotted keys nest, values are read as YAML."""
    wrong = [word for word in overrides if "=" not in word or word.startswith("=")]
    if wrong:
        raise UserError(f"{', '.join(wrong)}: an override is key=value, such as optim.lr=1e-3.")
    try:
        return OmegaConf.from_dotlist(list(overrides))
    except Exception as error:  # as above
        raise UserError(f"{' '.join(overrides)[:500]}: not readable as key=value: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return the first line of an exception's text."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
