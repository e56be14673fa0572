"""Key `published` of a study's stages: published weights that replace a stage, so that the stage is not run.

A stage that others start from may name published weights. They replace the stage wherever its recipe is used unchanged; a scale
that replaces the recipe runs the stage. `<stage>.published=none` runs it in any case, and `<stage>.published=<init>` replaces it
with other weights, at any scale:

    stages:
      pretrain:
        recipe: imagenet1k/dino_vit_small.yaml
        published: {init: "hf-hub:<id>@<commit>", description: the weights that DINO's authors released, sha256: "<64 digits>"}

`sha256` is optional; if it is given, the file of the weights must match it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, field_validator
from pydantic_core import PydanticCustomError

from common.config_messages import TYPE
from common.errors import did_you_mean
from common.yaml_words import as_value, values_of
from recipes.study.sections import FileSection
from recipes.study.specification import PublishedWeights, Stage, Study

PUBLISHED = "published"
"""Name of the key."""


def _check_digest(text: str) -> str:
    """Return a SHA-256 in lower case; raise for anything else."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise PydanticCustomError(TYPE, "must be the 64 hexadecimal digits that sha256sum prints.")
    return text.lower()


class PublishedEntry(FileSection):
    """Published weights that replace a stage."""

    init: str
    """Weights, as in the key init of a recipe: a file, a run folder, or hf-hub:<id>@<commit>."""
    description: str
    """What the weights are, for the report."""
    sha256: Annotated[str, AfterValidator(_check_digest)] | None = None
    """SHA-256 that the file of the weights must have; none: it is not verified."""

    @field_validator("init", "description", mode="before")
    @classmethod
    def _check_text(cls, value: Any, info: Any) -> Any:
        """Raise unless a value is text that says something."""
        if not (isinstance(value, str) and isinstance(as_value(value), str) and value.strip()):
            expected = "name the weights" if info.field_name == "init" else "describe the weights"
            raise PydanticCustomError(TYPE, f"must {expected}, as text.")
        return value


def published_weights(
    stage: str, entry: PublishedEntry | None, overrides: Mapping[str, Any], is_scaled: bool, problems: list[str]
) -> PublishedWeights | None:
    """Return the weights that replace a stage, or None if it is run; append errors to `problems`.

    The command line (`overrides`) takes precedence over the study's `entry`, which a scaled recipe (`is_scaled`) disables.
    """
    key = f"{stage}.{PUBLISHED}"
    own = None if entry is None else entry.init
    init = overrides.get(key, None if is_scaled else own)
    if as_value(init) is None or str(init).lower() in ("none", "null"):
        return None
    if not isinstance(as_value(init), str) or not init.strip():
        init = values_of(init)
        problems.append(f"{key} = {init!r}: must be weights (as in init: a file, a run folder, hf-hub:<id>), or none.")
    if entry is None or init != own:
        return PublishedWeights(str(init), "the weights given for it")
    return PublishedWeights(entry.init, " ".join(entry.description.split()), entry.sha256)


def overrides_of_unknown_stages(overrides: Mapping[str, Any], stages: list[str]) -> Iterator[str]:
    """Yield a problem for every override `<stage>.published` whose stage the study does not have."""
    for key in overrides:
        stage, _, last = key.rpartition(".")
        if last == PUBLISHED and stage not in stages:
            yield f"{key}: no such stage.{did_you_mean(stage, stages)} Known stages: {', '.join(stages)}."


def replacement_conflicts(study: Study, stage: Stage) -> Iterator[str]:
    """Yield a problem for everything that conflicts with the replacement of a stage: unused weights, keys of the stage, axes."""
    assert stage.published is not None
    key, init = f"{stage.name}.{PUBLISHED}", stage.published.init
    starts = [each.starts_from for each in study.stages]
    starts += [start for axis in study.axes for level in axis.starts_from.values() for start in level.values()]
    if stage is study.stages[-1] or stage.name not in starts:
        yield f"{key} = {init}: no stage starts from {stage.name}, so its weights would be unused. Remove the key."
    reason = f"the stage {stage.name} is not run: published weights replace it ({init})"
    for name in (name for name in stage.overrides if name.startswith(f"{stage.name}.")):
        yield f"{name}: {reason}. Add {key}=none to run it, or remove the key."
    for axis in study.axes:
        for name in (name for name in axis.all_keys() if name.startswith(f"{stage.name}.")):
            yield f"axes.{axis.name} varies {name}: {reason}, so the rows would be identical. Add {key}=none to run it."


def published_note(stage: Stage) -> str:
    """Return the report's note on a stage that published weights replace."""
    assert stage.published is not None
    weights = f"{stage.published.description} ({stage.published.init})"
    return (
        f"The stage {stage.name} was not run: runs start from {weights}. The costs here do not include their training."
    )
