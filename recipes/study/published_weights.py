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
from typing import Any

from common.errors import did_you_mean
from recipes.study.sections import check_section
from recipes.study.specification import PublishedWeights, Stage, Study

PUBLISHED = "published"
"""Name of the key."""


def build_published_weights(
    stage: str, entry: Any, overrides: Mapping[str, Any], is_scaled: bool, problems: list[str]
) -> PublishedWeights | None:
    """Return the weights that replace a stage, or None if it is run; append errors to `problems`.

    The command line (`overrides`) takes precedence over the study's `entry`, which a scaled recipe (`is_scaled`) disables.
    """
    where, key = f"stages.{stage}.{PUBLISHED}", f"{stage}.{PUBLISHED}"
    required = ("init", "description")
    fields = check_section(entry, where, (*required, "sha256"), required, problems) if entry is not None else {}
    for name in required:
        if name in fields and not (isinstance(fields[name], str) and fields[name].strip()):
            expected = "name the weights" if name == "init" else "describe the weights"
            problems.append(f"{where}.{name} = {fields[name]!r}: must {expected}, as text.")
    digest = fields.get("sha256")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch(r"[0-9a-fA-F]{64}", digest)):
        problems.append(
            f"{where}.sha256 = {digest!r}: must be the 64 hexadecimal digits that sha256sum prints, in quotes."
        )
        digest = None
    init = overrides.get(key, None if is_scaled else fields.get("init"))
    if init is None or str(init).lower() in ("none", "null"):
        return None
    if key in overrides and not (isinstance(init, str) and init.strip()):
        problems.append(f"{key} = {init!r}: must be weights (as in init: a file, a run folder, hf-hub:<id>), or none.")
    if init != fields.get("init"):
        return PublishedWeights(str(init), "the weights given for it")
    description = " ".join(str(fields.get("description", "")).split())
    return PublishedWeights(str(init), description, digest.lower() if digest else None)


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
    levels = [(axis, settings) for axis in study.axes for settings in axis.levels.values()]
    all_settings = [*(settings for _, settings in levels), *(each.settings for each in study.stages)]
    if stage is study.stages[-1] or not any(
        value == stage.name
        for settings in all_settings
        for name, value in settings.items()
        if name.rpartition(".")[2] == "needs"
    ):
        yield f"{key} = {init}: no stage starts from {stage.name}, so its weights would be unused. Remove the key."
    reason = f"the stage {stage.name} is not run: published weights replace it ({init})"
    for name in (name for name in stage.overrides if name.startswith(f"{stage.name}.")):
        yield f"{name}: {reason}. Add {key}=none to run it, or remove the key."
    varied = {
        (axis.name, name): None for axis, settings in levels for name in settings if name.startswith(f"{stage.name}.")
    }
    for axis, name in varied:
        yield f"axes.{axis} varies {name}: {reason}, so the rows would be identical. Add {key}=none to run it."


def published_note(stage: Stage) -> str:
    """Return the report's note on a stage that published weights replace."""
    assert stage.published is not None
    weights = f"{stage.published.description} ({stage.published.init})"
    return (
        f"The stage {stage.name} was not run: runs start from {weights}. The costs here do not include their training."
    )
