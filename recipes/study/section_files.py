"""Files of the keys of an engine's section (`--slurm FILE`, `--ray FILE`), which override the section of the study."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from common.config import problems_error, read
from common.errors import UserError, did_you_mean
from common.yaml_text import parse_yaml, reason_of


class _EngineSection(Protocol):
    """Section of an engine, with other values for single stages."""

    @property
    def stages(self) -> Mapping[str, Any]:
        """Return the values of stages by name."""

    def model_dump(self, *, exclude_unset: bool) -> dict[str, Any]:
        """Return its values as they would be in a file."""


EngineEntry = TypeVar("EngineEntry", bound=_EngineSection)


def merge_file(
    name: str, model: type[EngineEntry], entry: EngineEntry, path: Path | None, stages: tuple[str, ...]
) -> EngineEntry:
    """Return the section `name` of an engine with the keys of the file of the option --<name> over it, as `model` reads both.

    Raise UserError for an invalid file, and for a stage that is none of the study's `stages`.
    """
    if path is not None:
        content = _read_file(name, path)
        _, problems = read(model, content)
        if problems:
            raise problems_error(f"--{name} {path}", problems)
        merged, problems = read(model, {**entry.model_dump(exclude_unset=True), **content})
        if merged is None:
            raise problems_error(f"--{name} {path}, with the section {name} of the study", problems)
        entry = merged
    if unknown := [stage for stage in entry.stages if stage not in stages]:
        hint = did_you_mean(unknown[0], stages)
        raise UserError(f"{name}.stages.{unknown[0]}: no stage of the study.{hint} Its stages: {', '.join(stages)}.")
    return entry


def _read_file(name: str, path: Path) -> Mapping[str, Any]:
    """Return the content of a file of the keys of a section."""
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"--{name} {path}: not readable as YAML: {reason_of(error)}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"--{name} {path}: must be a mapping of the keys of a study's section {name}, such as cpus_per_process: 2."
        )
    return content
