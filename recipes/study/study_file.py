"""Study files: a YAML file becomes a `Study`; every key is validated and all problems are reported together.

A complete study file:

    name: quickstart
    question: Is pre-training worth it here?
    stages:                       # in order; the report is on the last one, the others run where it needs them
      pretrain: {recipe: digits/pretrain.yaml}
      finetune: {recipe: digits/finetune.yaml, set: {optim.lr: 1e-3}}
    scales: [imagenet1k, digits]  # scales it can run at (`scales`), if it is written in a paper's terms; omitted: only its own
    axes:                         # each combination of levels is a cell of the study; forms of an axis: `axes`
      stem: {levels: {patchify: {model.stem: patchify}, conv: {model.stem: conv}}}
      training: {levels: {OST: {}, TST: {finetune.needs: pretrain}}}
      fraction: {key: finetune.data.fraction, values: [0.1, 1.0]}
      seed: {key: train.seed, values: [0, 1, 2]}
    report: {metric: test_top1, x: fraction, repeats: seed, compare: {training: [OST, TST], stem: [patchify, conv]}}
    set: {data.workers: 1}        # overrides for every run, like those of the command line

A key is a recipe key of every stage, or of one stage if that stage's name is its prefix. The key `needs` names the stage that a run
starts from: the run gets `init=<folder of that stage's run>`. A stage may be replaced by published weights (`published_weights`).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from common.errors import UserError, did_you_mean
from recipes.study.axes import build_axis
from recipes.study.published_weights import (
    PUBLISHED,
    build_published_weights,
    overrides_of_unknown_stages,
    published_note,
    replacement_conflicts,
)
from recipes.study.report_spec import build_report_spec
from recipes.study.scale_rules import format_level
from recipes.study.scales import Scale, load_scale
from recipes.study.sections import check_section, named_entries, read_yaml
from recipes.study.specification import FACTOR, REPOSITORY, STUDIES, Axis, Stage, Study, display_path


def find_study(name: str) -> Path:
    """Return the file of the study `name`; `name` may also be the path of a study file."""
    if Path(name).is_file():
        return Path(name)
    if (STUDIES / f"{name}.yaml").is_file():
        return STUDIES / f"{name}.yaml"
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    raise UserError(
        f"study {name}: neither a study nor a file.{did_you_mean(name, known)} Known studies: {', '.join(known)}."
    )


def load_study(
    path: Path, overrides: tuple[str, ...] = (), scale: str | None = None, seeds: tuple[int, ...] = ()
) -> Study:
    """Return the study at `path`, optionally at `scale` and with `seeds` as the levels of its repeats.

    `overrides` are `key=value` or `<stage>.key=value` and apply to every run.
    """
    try:
        mapping = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"study {path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(mapping, dict):
        raise UserError(f"study {path}: must be a mapping with name, question, stages, axes and report.")
    invalid = [word for word in overrides if not word.partition("=")[1] or word.startswith("=")]
    if invalid:
        raise UserError(f"{', '.join(invalid)}: an override is key=value or <stage>.key=value, such as data.workers=1.")
    if overrides:
        pairs = dict(word.split("=", 1) for word in overrides)
        mapping["set"] = mapping.get("set", {}) | {key: read_yaml(value) for key, value in pairs.items()}
    if scale is not None:
        mapping["scale"] = scale
    if seeds:
        mapping["seeds"] = list(seeds)
    return build_study(mapping, display_path(path), folder=path.parent)


def build_study(mapping: Mapping[str, Any], source: str, folder: Path | None = None) -> Study:
    """Return `mapping` as a Study; raise one UserError that lists all problems.

    Recipes are searched for in `folder` (that of the study file), in the working directory, in the repository and in its recipes.
    """
    problems: list[str] = []
    allowed = ("name", "question", "stages", "axes", "report", "scales", "set", "scale", "seeds")
    sections = check_section(mapping, "", allowed, allowed[:5], problems)
    scale, overrides = _select_scale(sections), sections.get("set") or {}
    stages = tuple(
        _build_stage(name, entry, overrides, scale, folder, problems)
        for name, entry in named_entries(sections.get("stages"), "stages", problems)
    )
    problems += overrides_of_unknown_stages(overrides, [stage.name for stage in stages])
    axes = _build_axes(sections, scale, problems)
    spec = build_report_spec(sections.get("report"), axes, problems)
    spec = replace(spec, notes=(*spec.notes, *(published_note(stage) for stage in stages if stage.published)))
    name, question = str(sections.get("name", "")), " ".join(str(sections.get("question", "")).split())
    scale_name = scale.name if scale else None
    study = Study(name, question, stages, tuple(axes.values()), spec, mapping, source, scale_name)
    problems += _conflicts(study)
    if problems:
        raise UserError(f"study {source}: {len(problems)} problems\n" + "\n".join(f"  {line}" for line in problems))
    return study


def _select_scale(sections: Mapping[str, Any]) -> Scale | None:
    """Return the scale of a study; a study that offers scales must be given one."""
    name, offered = sections.get("scale"), sections.get("scales") or []
    study = sections.get("name")
    if name is None:
        if offered:
            raise UserError(f"study {study}: choose a scale: --scale {' | '.join(offered)} (the first is the paper's).")
        return None
    if not offered:
        raise UserError(f"--scale {name}: study {study} has only one scale, that of its recipes. Remove the option.")
    if name not in offered:
        hint = did_you_mean(str(name), offered)
        raise UserError(f"--scale {name}: not a scale of study {study}.{hint} Its scales: {', '.join(offered)}.")
    return load_scale(str(name))


def _build_axes(sections: Mapping[str, Any], scale: Scale | None, problems: list[str]) -> dict[str, Axis]:
    """Return the axes by name, with the seeds of the command line or the scale, and without the levels that the scale excludes."""
    repeats = sections["report"].get("repeats") if isinstance(sections.get("report"), dict) else None
    seeds = sections.get("seeds") or (list(scale.seeds) if scale else [])
    axes = {}
    for name, entry in named_entries(sections.get("axes"), "axes", problems):
        if name == repeats and isinstance(entry, dict):
            if sections.get("seeds") and "values" not in entry:
                problems.append(f"seeds = {seeds}: axes.{name} has no list of values that the seeds could replace.")
            if seeds and "values" in entry:
                entry = {**entry, "values": seeds}
        axes[name] = _keep_levels(build_axis(name, entry, problems), scale)
    return axes


def _keep_levels(axis: Axis, scale: Scale | None) -> Axis:
    """Return an axis without the levels that its scale excludes."""
    if scale is None or not scale.keep:
        return axis
    levels = {}
    for level, settings in axis.levels.items():
        columns = axis.columns.get(level, {axis.name: level})
        if all(format_level(columns[name]) in kept for name, kept in scale.keep.items() if name in columns):
            levels[level] = settings
    return Axis(axis.name, levels, axis.columns)


def _conflicts(study: Study) -> list[str]:
    """Return a problem for every unknown `needs`, override of a key that an axis varies, and conflict with published weights."""
    problems, names = [], [stage.name for stage in study.stages]
    for axis in study.axes:
        for level, settings in axis.levels.items():
            problems += _unknown_needs(settings, f"axes.{axis.name}.levels.{level}", names)
    for stage in study.stages:
        problems += _unknown_needs(stage.settings, f"stages.{stage.name}.set", names)
        overrides = study.keys_of(stage, stage.overrides)
        for axis in study.axes:
            varied = {
                key.removesuffix(FACTOR) for settings in axis.levels.values() for key in study.keys_of(stage, settings)
            }
            reason = f"the axis {axis.name} varies it. Change the axis in a study file of your own."
            problems += [f"{stage.name}.{key}: {reason}" for key in overrides if key in varied]
        if stage.published:
            problems += replacement_conflicts(study, stage)
    return problems


def _build_stage(
    name: str,
    entry: Any,
    overrides: Mapping[str, Any],
    scale: Scale | None,
    folder: Path | None,
    problems: list[str],
) -> Stage:
    """Return one entry of `stages`, with the scale's replacement of its recipe if there is one."""
    fields = check_section(entry, f"stages.{name}", ("recipe", "module", "set", "published"), ("recipe",), problems)
    settings, module = fields.get("set", {}), str(fields.get("module", name))
    path = Path(str(fields.get("recipe", "")))
    candidates = [root / path for root in (folder, Path(), REPOSITORY, REPOSITORY / "recipes") if root is not None]
    recipe = next((candidate for candidate in candidates if candidate.is_file()), path)
    if fields and not recipe.is_file() and folder is not None:
        problems.append(f"stages.{name}.recipe = {path}: no such file. Give its path from the repository's root.")
    scaled = scale.replacement(recipe) if scale else None
    published = build_published_weights(name, fields.get("published"), overrides, scaled is not None, problems)
    overrides = {key: value for key, value in overrides.items() if key.rpartition(".")[2] != PUBLISHED}
    if scaled is None:
        return Stage(name, module, recipe, settings, overrides=overrides, published=published)
    return Stage(name, module, scaled.recipe, settings, scaled.settings, scaled.scale_rules, overrides, published)


def _unknown_needs(settings: Mapping[str, Any], where: str, stages: list[str]) -> list[str]:
    """Return a problem for every `needs` that names an unknown stage."""
    return [
        f"{where}.{key} = {value}: no such stage.{did_you_mean(str(value), stages)} Known stages: {', '.join(stages)}."
        for key, value in settings.items()
        if key.rpartition(".")[2] == "needs" and value not in stages
    ]
