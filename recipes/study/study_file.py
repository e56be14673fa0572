"""Owns reading a study's file: every key checked, all problems at once.

A study file, whole:

    name: quickstart
    question: Is pre-training worth it here?
    stages:                       # in order; the last one's results are reported, the others run where it needs them
      pretrain: {recipe: digits/pretrain.yaml}
      finetune: {recipe: digits/finetune.yaml, set: {optim.lr: 1e-3}}
    scales: [imagenet1k, digits]  # sizes it runs at (`scales`), where it is written in a paper's terms; none: as it stands
    axes:                         # every combination of levels is a cell of the study; `axes` has the forms of one
      stem: {levels: {patchify: {model.stem: patchify}, conv: {model.stem: conv}}}
      training: {levels: {OST: {}, TST: {finetune.needs: pretrain}}}
      fraction: {key: finetune.data.fraction, values: [0.1, 1.0]}
      seed: {key: train.seed, values: [0, 1, 2]}
    report: {metric: test_top1, over: fraction, repeats: seed, compare: {training: [OST, TST], stem: [patchify, conv]}}
    set: {data.workers: 1}        # on top of every run, as the command line gives them

A key is a recipe's key for every stage, or for one stage when that stage's name stands before it. The key `needs` names
the stage a run starts from: it gets `init=<that run's folder>`.

A stage that others start from may name weights that somebody has published. They stand for the stage, which is not run, wherever
its recipe is taken as it is written; a scale that puts another recipe in its place runs it. `<stage>.published=none` runs it, too,
and `<stage>.published=<init>` takes other weights, at any scale:

      pretrain:
        recipe: imagenet1k/dino_vit_small.yaml
        published: {init: "hf-hub:<id>@<commit>", told: the weights that DINO's authors released, sha256: "<64 digits>"}

`sha256` may be left out; where it is given, the file of the weights has to have it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from common.config import nearest
from common.errors import UserError
from recipes.study.axes import build_axis
from recipes.study.report_spec import build_reading
from recipes.study.scale_rules import write_level
from recipes.study.scales import Scale, load_scale
from recipes.study.sections import named, read_yaml, section
from recipes.study.specification import FACTOR, REPOSITORY, STUDIES, Axis, Published, Stage, Study, shown

PUBLISHED = "published"
"""Key of the weights that stand for a stage."""


def find_study(name: str) -> Path:
    """Return the file of the study called `name`, or `name` itself where it is a file."""
    if Path(name).is_file():
        return Path(name)
    if (STUDIES / f"{name}.yaml").is_file():
        return STUDIES / f"{name}.yaml"
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    raise UserError(f"study {name}: neither a study nor a file.{nearest(name, known)} There are {', '.join(known)}.")


def load_study(
    path: Path, overrides: tuple[str, ...] = (), scale: str | None = None, seeds: tuple[int, ...] = ()
) -> Study:
    """Return the study at `path`, at `scale` and with `seeds` as the levels of its repeats where they are given.

    `overrides` are `key=value` or `<stage>.key=value` on top of every run.
    """
    try:
        mapping = read_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"study {path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(mapping, dict):
        raise UserError(f"study {path}: a study is a mapping with name, question, stages, axes and report.")
    wrong = [word for word in overrides if not word.partition("=")[1] or word.startswith("=")]
    if wrong:
        raise UserError(f"{', '.join(wrong)}: an override is key=value or <stage>.key=value, such as data.workers=1.")
    if overrides:
        words = dict(word.split("=", 1) for word in overrides)
        mapping["set"] = mapping.get("set", {}) | {key: read_yaml(value) for key, value in words.items()}
    if scale is not None:
        mapping["scale"] = scale
    if seeds:
        mapping["seeds"] = list(seeds)
    return build_study(mapping, shown(path), beside=path.parent)


def build_study(mapping: Mapping[str, Any], source: str, beside: Path | None = None) -> Study:
    """Return `mapping` as a Study; raise one UserError that lists everything wrong with it.

    A stage's recipe is looked for beside the study file, in the working folder, then in the repository and its recipes.
    """
    problems: list[str] = []
    allowed = ("name", "question", "stages", "axes", "report", "scales", "set", "scale", "seeds")
    sections = section(mapping, "", allowed, allowed[:5], problems)
    scale = _chosen_scale(sections)
    stages = tuple(
        _build_stage(name, entry, sections.get("set") or {}, scale, beside, problems)
        for name, entry in named(sections.get("stages"), "stages", problems)
    )
    problems += _published_without_stage(sections.get("set") or {}, [stage.name for stage in stages])
    repeats = sections["report"].get("repeats") if isinstance(sections.get("report"), dict) else None
    seeds = sections.get("seeds") or (list(scale.seeds) if scale else [])
    axes = {}
    for name, entry in named(sections.get("axes"), "axes", problems):
        if name == repeats and sections.get("seeds") and isinstance(entry, dict) and "values" not in entry:
            problems.append(f"seeds = {sections['seeds']}: axes.{name} is no list of values that others could replace.")
        if name == repeats and seeds and isinstance(entry, dict) and "values" in entry:
            entry = {**entry, "values": seeds}
        axes[name] = _keep_levels(build_axis(name, entry, problems), scale)
    reading = build_reading(sections.get("report"), axes, problems)
    reading = replace(reading, notes=(*reading.notes, *map(_note, (s for s in stages if s.published))))
    question = " ".join(str(sections.get("question", "")).split())
    at = scale.name if scale else None
    study = Study(str(sections.get("name", "")), question, stages, tuple(axes.values()), reading, mapping, source, at)
    problems += _conflicts(study)
    if problems:
        raise UserError(f"study {source}: {len(problems)} wrong\n" + "\n".join(f"  {line}" for line in problems))
    return study


def _chosen_scale(sections: Mapping[str, Any]) -> Scale | None:
    """Return the scale that a study is to run at; a study of a paper has to be told which."""
    name, offered = sections.get("scale"), sections.get("scales") or []
    study = sections.get("name")
    if name is None:
        if offered:
            raise UserError(
                f"study {study}: say at which scale: --scale {' | '.join(offered)} (the first is the paper's)."
            )
        return None
    if not offered:
        raise UserError(f"--scale {name}: study {study} has one size only, the one its recipes say.")
    if name not in offered:
        raise UserError(
            f"--scale {name}: study {study} is offered at {', '.join(offered)}.{nearest(str(name), offered)}"
        )
    return load_scale(str(name))


def _keep_levels(axis: Axis, scale: Scale | None) -> Axis:
    """Return an axis without the levels that its scale leaves out."""
    if scale is None or not scale.keep:
        return axis
    levels = {}
    for level, settings in axis.levels.items():
        columns = axis.columns.get(level, {axis.name: level})
        if all(write_level(columns[name]) in kept for name, kept in scale.keep.items() if name in columns):
            levels[level] = settings
    return Axis(axis.name, levels, axis.columns)


def _conflicts(study: Study) -> list[str]:
    """Return a problem for every setting that names no stage, sets what an axis varies, or is for a stage that is not run."""
    problems, names = [], [stage.name for stage in study.stages]
    for axis in study.axes:
        for level, settings in axis.levels.items():
            problems += _wrong_needs(settings, f"axes.{axis.name}.levels.{level}", names)
    for stage in study.stages:
        problems += _wrong_needs(stage.settings, f"stages.{stage.name}.set", names)
        given = study.addressed(stage, stage.overrides)
        for axis in study.axes:
            varied = {
                key.removesuffix(FACTOR)
                for settings in axis.levels.values()
                for key in study.addressed(stage, settings)
            }
            told = f"the axis {axis.name} varies it. Change the axis in a study file of your own."
            problems += [f"{stage.name}.{key}: {told}" for key in given if key in varied]
        if stage.published:
            problems += _of_unrun_stage(study, stage)
    return problems


def _of_unrun_stage(study: Study, stage: Stage) -> Iterator[str]:
    """Yield what speaks against weights that stand for a stage: nothing starts from it, or something sets its keys."""
    assert stage.published is not None
    key = f"{stage.name}.{PUBLISHED}"
    levels = [(axis, settings) for axis in study.axes for settings in axis.levels.values()]
    every = [*(settings for _, settings in levels), *(each.settings for each in study.stages)]
    if stage is study.stages[-1] or not any(
        value == stage.name
        for settings in every
        for name, value in settings.items()
        if name.rpartition(".")[2] == "needs"
    ):
        told = f"no stage starts from {stage.name}, so no weights can stand for it. Leave the key out."
        yield f"{key} = {stage.published.init}: {told}"
    remedy = f"Add {key}=none to run it, or leave the key out."
    for name in (name for name in stage.overrides if name.startswith(f"{stage.name}.")):
        yield f"{name}: the stage {stage.name} is not run, published weights stand for it ({stage.published.init}). {remedy}"
    varied = {
        (axis.name, name): None for axis, settings in levels for name in settings if name.startswith(f"{stage.name}.")
    }
    for axis, name in varied:
        yield (
            f"axes.{axis} varies {name}: the stage {stage.name} is not run, published weights stand for it"
            f" ({stage.published.init}), so its rows would be one and the same. Add {key}=none to run it."
        )


def _published_without_stage(overrides: Mapping[str, Any], stages: list[str]) -> Iterator[str]:
    """Yield a problem for every key of published weights whose stage the study has not."""
    for key in overrides:
        stage, _, last = key.rpartition(".")
        if last == PUBLISHED and stage not in stages:
            yield f"{key}: no such stage.{nearest(stage, stages)} There are {', '.join(stages)}."


def _build_stage(
    name: str,
    entry: Any,
    overrides: Mapping[str, Any],
    scale: Scale | None,
    beside: Path | None,
    problems: list[str],
) -> Stage:
    """Return one entry of `stages`, with the recipe that stands for its own at the study's scale."""
    fields = section(entry, f"stages.{name}", ("recipe", "module", "set", "published"), ("recipe",), problems)
    settings, module = fields.get("set", {}), str(fields.get("module", name))
    where = Path(str(fields.get("recipe", "")))
    places = [folder / where for folder in (beside, Path(), REPOSITORY, REPOSITORY / "recipes") if folder is not None]
    recipe = next((place for place in places if place.is_file()), where)
    if fields and not recipe.is_file() and beside is not None:
        problems.append(f"stages.{name}.recipe = {where}: no such file. Give it from the repository's root.")
    scaled = scale.stands_for(recipe) if scale else None
    published = _published(name, fields.get("published"), overrides, scaled is not None, problems)
    overrides = {key: value for key, value in overrides.items() if key.rpartition(".")[2] != PUBLISHED}
    if scaled is None:
        return Stage(name, module, recipe, settings, overrides=overrides, published=published)
    return Stage(name, module, scaled.recipe, settings, scaled.settings, scaled.translations, overrides, published)


def _published(
    name: str, entry: Any, overrides: Mapping[str, Any], is_scaled: bool, problems: list[str]
) -> Published | None:
    """Return the weights that stand for a stage: those that the command line names, or the study's own where nothing is scaled."""
    where = f"stages.{name}.{PUBLISHED}"
    own = section(entry, where, ("init", "told", "sha256"), ("init", "told"), problems) if entry is not None else {}
    for key in ("init", "told"):
        if key in own and not (isinstance(own[key], str) and own[key].strip()):
            problems.append(
                f"{where}.{key} = {own[key]!r}: needs {'weights' if key == 'init' else 'words for them'}, as text."
            )
    digest = own.get("sha256")
    if digest is not None and not (isinstance(digest, str) and re.fullmatch(r"[0-9a-fA-F]{64}", digest)):
        problems.append(
            f"{where}.sha256 = {digest!r}: needs the 64 hexadecimal digits that sha256sum prints, in quotes."
        )
        digest = None
    key = f"{name}.{PUBLISHED}"
    given = overrides.get(key, None if is_scaled else own.get("init"))
    if given is None or str(given).lower() in ("none", "null"):
        return None
    if key in overrides and not (isinstance(given, str) and given.strip()):
        problems.append(
            f"{key} = {given!r}: needs weights (what init takes: a file, a run's folder, hf-hub:<id>), or none."
        )
    if given != own.get("init"):
        return Published(str(given), "weights named for it")
    return Published(str(given), " ".join(str(own.get("told", "")).split()), digest.lower() if digest else None)


def _note(stage: Stage) -> str:
    """Return the report's note on a stage that published weights stand for."""
    assert stage.published is not None
    return (
        f"The stage {stage.name} was not run: runs start from {stage.published.told} ({stage.published.init}), whose training"
        " is in no cost here."
    )


def _wrong_needs(settings: Mapping[str, Any], where: str, stages: list[str]) -> list[str]:
    """Return a problem for every `needs` that names no stage."""
    return [
        f"{where}.{key} = {value}: no such stage.{nearest(str(value), stages)} There are {', '.join(stages)}."
        for key, value in settings.items()
        if key.rpartition(".")[2] == "needs" and value not in stages
    ]
