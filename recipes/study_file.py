"""Owns reading a study's file: every key checked, all problems at once.

A study file, whole:

    name: quickstart
    question: Is pre-training worth it here?
    stages:                       # in order; the last one's results are reported, the others run where it needs them
      pretrain: {recipe: digits/pretrain.yaml}
      finetune: {recipe: digits/finetune.yaml, set: {optim.lr: 1e-3}}
    axes:                         # every combination of levels is a cell of the study
      stem: {levels: {patchify: {model.stem: patchify}, conv: {model.stem: conv}}}
      training: {levels: {OST: {}, TST: {finetune.needs: pretrain}}}
      fraction: {key: finetune.data.fraction, values: [0.1, 1.0]}
      seed: {key: train.seed, values: [0, 1, 2]}
    report: {metric: test_top1, over: fraction, repeats: seed, compare: {training: [OST, TST], stem: [patchify, conv]}}

A key is a recipe's key for every stage, or for one stage when that stage's name stands before it. The key `needs` names
the stage a run starts from: it gets `init=<that run's folder>`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from common.config import nearest
from common.errors import UserError
from recipes.study import REPOSITORY, STUDIES, Axis, Reading, Stage, Study, shown


def find_study(name: str) -> Path:
    """Return the file of the study called `name`, or `name` itself where it is a file."""
    if Path(name).is_file():
        return Path(name)
    if (STUDIES / f"{name}.yaml").is_file():
        return STUDIES / f"{name}.yaml"
    known = sorted(path.stem for path in STUDIES.glob("*.yaml"))
    raise UserError(f"study {name}: neither a study nor a file.{nearest(name, known)} There are {', '.join(known)}.")


def load_study(path: Path, overrides: tuple[str, ...] = ()) -> Study:
    """Return the study at `path`; `overrides` are `key=value` or `<stage>.key=value` on top of every run."""
    try:
        mapping = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"study {path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(mapping, dict):
        raise UserError(f"study {path}: a study is a mapping with name, question, stages, axes and report.")
    wrong = [word for word in overrides if not word.partition("=")[1] or word.startswith("=")]
    if wrong:
        raise UserError(f"{', '.join(wrong)}: an override is key=value or <stage>.key=value, such as data.workers=1.")
    if overrides:
        words = dict(word.split("=", 1) for word in overrides)
        mapping["set"] = mapping.get("set", {}) | {key: yaml.safe_load(value) for key, value in words.items()}
    study = build_study(mapping, shown(path), beside=path.parent)
    for key in (word.partition("=")[0] for word in overrides):
        for axis in study.axes:
            if any(key in settings for settings in axis.levels.values()):
                raise UserError(f"{key}: the axis {axis.name} varies it. Change the axis in a study file of your own.")
    return study


def build_study(mapping: Mapping[str, Any], source: str, beside: Path | None = None) -> Study:
    """Return `mapping` as a Study; raise one UserError that lists everything wrong with it.

    A stage's recipe is looked for beside the study file, in the working folder, then in the repository and its recipes.
    """
    problems: list[str] = []
    allowed = ("name", "question", "stages", "axes", "report", "set")
    sections = _section(mapping, "", allowed, allowed[:-1], problems)
    shared = sections.get("set", {})
    stages = tuple(
        _build_stage(name, entry, shared, beside, problems)
        for name, entry in _named(sections.get("stages"), "stages", problems)
    )
    axes = tuple(_build_axis(name, entry, problems) for name, entry in _named(sections.get("axes"), "axes", problems))
    reading = _build_reading(sections.get("report"), {axis.name: axis for axis in axes}, problems)
    names = [stage.name for stage in stages]
    for axis in axes:
        for level, settings in axis.levels.items():
            problems += _wrong_needs(settings, f"axes.{axis.name}.levels.{level}", names)
    for stage in stages:
        problems += _wrong_needs(stage.settings, f"stages.{stage.name}.set", names)
    if problems:
        raise UserError(f"study {source}: {len(problems)} wrong\n" + "\n".join(f"  {line}" for line in problems))
    return Study(
        str(mapping["name"]), " ".join(str(mapping["question"]).split()), stages, axes, reading, mapping, source
    )


def level_name(value: Any) -> str:
    """Return a level's name for a value of an axis: numbers in their shortest form."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _build_stage(name: str, entry: Any, shared: Any, beside: Path | None, problems: list[str]) -> Stage:
    """Return one entry of `stages`; `shared` are the keys set for every stage."""
    fields = _section(entry, f"stages.{name}", ("recipe", "module", "set"), ("recipe",), problems)
    settings = {**fields.get("set", {}), **(shared if isinstance(shared, dict) else {})}
    named = Path(str(fields.get("recipe", "")))
    places = [folder / named for folder in (beside, Path(), REPOSITORY, REPOSITORY / "recipes") if folder is not None]
    recipe = next((place for place in places if place.is_file()), named)
    if fields and not recipe.is_file() and beside is not None:
        problems.append(f"stages.{name}.recipe = {named}: no such file. Give it from the repository's root.")
    return Stage(name, str(fields.get("module", name)), recipe, settings)


def _build_axis(name: str, entry: Any, problems: list[str]) -> Axis:
    """Return one entry of `axes`: `levels` by name, or one `key` (or several) with a list of `values`."""
    fields = _section(entry, f"axes.{name}", ("levels", "key", "values"), (), problems)
    if "levels" in fields and "key" not in fields and "values" not in fields:
        pairs = _named(fields["levels"], f"axes.{name}.levels", problems)
        wrong = [level for level, settings in pairs if not isinstance(settings, dict)]
        problems += [f"axes.{name}.levels.{level}: needs a mapping of recipe keys to values." for level in wrong]
        return Axis(name, {level: settings for level, settings in pairs if isinstance(settings, dict)})
    values, key = fields.get("values"), fields.get("key")
    if "levels" in fields or not isinstance(values, list) or not values or not isinstance(key, str | list):
        problems.append(f"axes.{name}: needs either levels, or key and a list of values.")
        return Axis(name, {})
    keys = [key] if isinstance(key, str) else key
    return Axis(name, {level_name(value): {str(one): value for one in keys} for value in values})


def _build_reading(entry: Any, axes: Mapping[str, Axis], problems: list[str]) -> Reading:
    """Return the section `report`, its axes and levels checked against the study's."""
    required = ("metric", "over", "repeats", "compare")
    fields = _section(entry, "report", (*required, "metric_name", "over_name", "titles", "notes"), required, problems)
    for key in ("over", "repeats"):
        if key in fields and fields[key] not in axes:
            problems.append(f"report.{key} = {fields[key]}: no such axis. There are {', '.join(axes)}.")
    if fields.get("over") in axes:
        wrong = [level for level in axes[fields["over"]].levels if not _is_number(level)]
        problems += [f"report.over: level {level} of {fields['over']} is not a number." for level in wrong]
    compare: dict[str, tuple[str, str]] = {}
    for name, pair in _named(fields.get("compare"), "report.compare", problems) if fields else []:
        levels = list(axes[name].levels) if name in axes else []
        if not isinstance(pair, list) or len(pair) != 2 or any(level not in levels for level in pair):
            has = f"{name} has {', '.join(levels) or 'none'}"
            problems.append(f"report.compare.{name} = {pair}: needs two levels of an axis, [base, other]; {has}.")
        else:
            compare[name] = (pair[0], pair[1])
    metric, over = str(fields.get("metric", "")), str(fields.get("over", ""))
    names = str(fields.get("metric_name", metric)), str(fields.get("over_name", over))
    notes = tuple(" ".join(str(note).split()) for note in fields.get("notes", ()))
    titles, repeats = fields.get("titles", {}), str(fields.get("repeats", ""))
    return Reading(metric, names[0], over, names[1], repeats, compare, titles, notes)


def _section(
    entry: Any, where: str, allowed: tuple[str, ...], required: tuple[str, ...], problems: list[str]
) -> dict[str, Any]:
    """Return a mapping of the study file after noting the keys it lacks and those nobody knows."""
    prefix = f"{where}." if where else ""
    if not isinstance(entry, dict):
        problems.append(f"{where}: missing, or not a mapping. It takes {', '.join(allowed)}.")
        return {}
    for key in entry:
        if key not in allowed:
            hint = nearest(str(key), list(allowed))
            problems.append(f"{prefix}{key}: unknown key.{hint} Known are {', '.join(allowed)}.")
    problems += [f"{prefix}{key}: missing." for key in required if key not in entry]
    return entry


def _named(entry: Any, where: str, problems: list[str]) -> list[tuple[str, Any]]:
    """Return the (name, value) pairs of a mapping that must not be empty."""
    if not isinstance(entry, dict) or not entry:
        problems.append(f"{where}: needs a mapping with at least one entry.")
        return []
    return [(level_name(key), value) for key, value in entry.items()]


def _wrong_needs(settings: Mapping[str, Any], where: str, stages: list[str]) -> list[str]:
    """Return a problem for every `needs` that names no stage."""
    return [
        f"{where}.{key} = {value}: no such stage.{nearest(str(value), stages)} There are {', '.join(stages)}."
        for key, value in settings.items()
        if key.rpartition(".")[2] == "needs" and value not in stages
    ]


def _is_number(text: str) -> bool:
    """Tell whether `text` reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
