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
      training: {levels: {OST: {}, TST: {starts_from: {finetune: pretrain}}}}
      fraction: {key: finetune.data.fraction, values: [0.1, 1.0]}
      seed: {key: train.seed, values: [0, 1, 2]}
    report: {metric: test_top1, x: fraction, repeats: seed, compare: {training: [OST, TST], stem: [patchify, conv]}}
    match: compute                # the arms get the same MACs (`matching`); compute is the default where levels are compared
    set: {data.workers: 1}        # overrides for every run, like those of the command line
    levels: {fraction: [0.1]}     # only these levels, like --levels; omitted: all

A key is a recipe key of every stage, or of one stage if that stage's name is its prefix. A stage that `starts_from` another one
gets `init=<folder of that stage's run>`; a level may change what a stage starts from (`sections`). `factors` multiply the values
that are set. A stage may be replaced by published weights (`published_weights`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from common.config import problems_error, read
from common.errors import UserError, did_you_mean
from common.yaml_text import parse_override, parse_yaml, reason_of
from common.yaml_words import values_of
from recipes.study.axes import make_axis, unknown_starts
from recipes.study.axis_forms import ValuesAxis
from recipes.study.axis_names import taken_names
from recipes.study.claimed_rows import ambiguous_claims
from recipes.study.display import display_path
from recipes.study.kept_levels import find_kept
from recipes.study.key_types import KeyTypes
from recipes.study.published_weights import (
    PUBLISHED,
    overrides_of_unknown_stages,
    published_note,
    published_weights,
    replacement_conflicts,
)
from recipes.study.ray_section import RayEntry
from recipes.study.report_spec import build_report_spec
from recipes.study.report_specification import ReportSpec
from recipes.study.scale_rules import repeated_names
from recipes.study.scales import Scale, load_scale
from recipes.study.slurm_section import SlurmEntry
from recipes.study.specification import BASELINES, FEATURES, REPOSITORY, STUDIES, Axis, Match, Stage, Study
from recipes.study.study_sections import StageEntry, StudyFile, valid_sections
from recipes.study.tune_forms import build_tune
from recipes.study.without import build_without


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
    path: Path,
    overrides: tuple[str, ...] = (),
    scale: str | None = None,
    seeds: tuple[int, ...] = (),
    epochs_factor: float = 1.0,
    levels: Mapping[str, Sequence[Any]] = MappingProxyType({}),
) -> Study:
    """Return the study at `path` as it is written, optionally at `scale` and with `seeds` as the levels of its repeats.

    `levels` are those that are run, by axis (`recipes.study.kept_levels`).

    A study that is sized to its images (`size`) is completed by `recipes.sizing`. A file that such a study wrote is run as it is,
    so the command that sized it is not its own.
    `overrides` are `key=value` or `<stage>.key=value` and apply to every run; `match=` and `tune=` set those fields of the study.
    """
    try:
        mapping = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"study {path}: not readable as YAML: {reason_of(error)}") from error
    if not isinstance(mapping, dict):
        raise UserError(f"study {path}: must be a mapping with name, question, stages, axes and report.")
    mapping.pop("sized_by", None)
    invalid = [word for word in overrides if not word.partition("=")[1] or word.lstrip().startswith("=")]
    if invalid:
        raise UserError(f"{', '.join(invalid)}: an override is key=value or <stage>.key=value, such as data.workers=1.")
    values = {key.strip(): parse_override(value) for key, value in (word.split("=", 1) for word in overrides)}
    mapping |= {name: values.pop(name) for name in ("match", "tune") if name in values}
    if values and isinstance(mapping.get("set", {}), dict):
        mapping["set"] = mapping.get("set", {}) | values
    if scale is not None:
        mapping["scale"] = scale
    if seeds:
        mapping["seeds"] = list(seeds)
    if levels:
        mapping["levels"] = (mapping.get("levels") or {}) | {axis: list(names) for axis, names in levels.items()}
    if epochs_factor != 1:
        mapping["epochs_factor"] = epochs_factor
    return build_study(mapping, display_path(path), folder=path.parent)


def build_study(mapping: Mapping[str, Any], source: str, folder: Path | None = None) -> Study:
    """Return `mapping` as a Study; raise one UserError that lists all problems.

    Recipes are searched for in `folder` (that of the study file), in the working directory, in the repository and in its recipes.
    """
    whole, problems = read(StudyFile, dict(mapping))
    file = whole or valid_sections(mapping)
    scale = _select_scale(file) if whole or file.scale in file.scales else None
    names = list(mapping["stages"]) if isinstance(mapping.get("stages"), dict) else []
    types = KeyTypes({name: entry.module or name for name, entry in file.stages.items()})
    stages = tuple(
        _build_stage(name, entry, file.set, scale, folder, types, problems) for name, entry in file.stages.items()
    )
    problems += overrides_of_unknown_stages(file.set, names)
    axes, scaled_away = _build_axes(file, scale, types, problems)
    problems += unknown_starts(stages, axes, names)
    if file.report is None or not axes or len(axes) < len(mapping["axes"]):
        raise problems_error(f"study {source}", problems)
    spec = build_report_spec(file.report, axes, problems)
    problems += taken_names(axes, spec)
    if whole is None:
        raise problems_error(f"study {source}", problems)
    spec = replace(spec, notes=(*spec.notes, *(published_note(stage) for stage in stages if stage.published)))
    question, scale_name = " ".join(file.question.split()), scale.name if scale else None
    match: Match = "compute" if isinstance(spec, ReportSpec) else "none"
    match = match if file.match == "auto" else file.match
    mapping = {**mapping, "match": match}
    study = Study(file.name, question, stages, tuple(axes.values()), spec, mapping, source, scale_name, match)
    if match != "none" and study.arm_axis is None and not isinstance(spec, ReportSpec):
        problems.append(f"match = {match}: no axis has levels that start from different stages. Remove the key.")
    tune = build_tune(file.tune, study, file.axes, problems) if file.tune is not None else None
    baselines = _build_baselines(file, axes, scale, folder, types, problems)
    without = build_without(file.without, axes, spec, scaled_away, problems)
    budget = file.budget_macs
    if file.levels and file.size is not None:
        problems.append(
            f"levels = {values_of(dict(file.levels))}: {file.name} is sized to its images, all of it. Remove the key."
        )
    study = replace(
        study,
        kept=find_kept(file.levels, axes, spec, problems) if file.levels and file.size is None else {},
        tune=tune,
        baselines=baselines,
        epochs_factor=file.epochs_factor,
        without=without,
        budget_macs=budget,
        slurm=file.slurm or SlurmEntry(),
        ray=file.ray or RayEntry(),
        sizing=tuple(entry.stated() for entry in file.sizing),
    )
    problems += ambiguous_claims(spec, study.axes, without, study.kept)
    if budget is not None and match != "compute":
        problems.append(f"budget_macs = {budget:g}: is for match = compute, and match is {match}. Remove the key.")
    problems += _conflicts(study)
    if problems:
        raise problems_error(f"study {source}", problems)
    return study


def _select_scale(file: StudyFile) -> Scale | None:
    """Return the scale of a study; a study that offers scales must be given one."""
    name, offered = file.scale, file.scales
    if name is None:
        if offered:
            raise UserError(
                f"study {file.name}: choose a scale: --scale {' | '.join(offered)} (the first is the paper's)."
            )
        return None
    if not offered:
        raise UserError(
            f"--scale {name}: study {file.name} has only one scale, that of its recipes. Remove the option."
        )
    if name not in offered:
        hint = did_you_mean(name, offered)
        raise UserError(f"--scale {name}: not a scale of study {file.name}.{hint} Its scales: {', '.join(offered)}.")
    return load_scale(name)


def _build_axes(
    file: StudyFile, scale: Scale | None, types: KeyTypes, problems: list[str]
) -> tuple[dict[str, Axis], dict[str, list[str]]]:
    """Return the axes by name, with the given seeds or the scale's, and the levels that the scale excludes."""
    repeats = file.report.repeats if file.report is not None else None
    seeds = file.seeds or (scale.seeds if scale else ())
    problems += [f"seeds: {problem}" for problem in repeated_names(seeds)]
    problems += taken_names(file.axes)
    axes, scaled_away = {}, {}
    for name, entry in file.axes.items():
        if name == repeats and seeds:
            if isinstance(entry, ValuesAxis):
                entry = entry.model_copy(update={"values": tuple(dict.fromkeys(seeds))})
            elif file.seeds:
                problems.append(
                    f"seeds = {list(seeds)}: axes.{name} has no list of values that the seeds could replace."
                )
        axis = make_axis(name, entry, types, problems)
        kept = [level for level in axis.levels if scale is None or scale.keeps(axis.columns.get(level, {name: level}))]
        axes[name] = replace(axis, levels={level: axis.levels[level] for level in kept})
        scaled_away[name] = [level for level in axis.levels if level not in kept]
    return axes, scaled_away


def _conflicts(study: Study) -> Iterator[str]:
    """Yield a problem for every override of a key that an axis varies, every conflict with published weights, and for `out`."""
    for stage in study.stages:
        overrides = study.keys_of(stage, stage.overrides)
        if "out" in {**study.keys_of(stage, stage.base), **overrides}:
            yield f"{stage.name}.out: each run has a folder of its own in that of the study, which --out names. Remove the key."
        for axis in study.axes:
            varied = study.keys_of(stage, dict.fromkeys(axis.all_keys()))
            if "out" in varied:
                yield f"axes.{axis.name} varies {stage.name}.out: each run has a folder of its own. Remove the key."
            reason = f"the axis {axis.name} varies it. Change the axis in a study file of your own."
            yield from (f"{stage.name}.{key}: {reason}" for key in overrides if key in varied)
        if stage.published:
            yield from replacement_conflicts(study, stage)


def _build_stage(
    name: str,
    entry: StageEntry,
    overrides: Mapping[str, Any],
    scale: Scale | None,
    folder: Path | None,
    types: KeyTypes,
    problems: list[str],
    where: str | None = None,
) -> Stage:
    """Return one entry of `stages`, or of the key `where`, with the scale's replacement of its recipe if there is one."""
    path = Path(entry.recipe)
    recipe, module = _find_recipe(path, folder), entry.module or name
    is_missing = recipe is None and folder is not None
    if is_missing:
        problems.append(
            f"{where or f'stages.{name}'}.recipe = {path}: no such file. Give its path from the repository's root."
        )
    recipe = recipe or path
    scaled = scale.replacement(recipe) if scale and not is_missing else None
    own_types = KeyTypes({name: module})
    published = published_weights(name, entry.published, overrides, scaled is not None, problems)
    return Stage(
        name,
        module,
        scaled.recipe if scaled else recipe,
        types.read_settings(entry.set),
        own_types.read_settings(scaled.settings) if scaled else {},
        {key: own_types.read_rule(key, rule) for key, rule in scaled.scale_rules.items()} if scaled else {},
        {key: value for key, value in overrides.items() if key.rpartition(".")[2] != PUBLISHED},
        published,
        (entry.factors, scaled.factors if scaled else {}),
        entry.starts_from,
    )


def _build_baselines(
    file: StudyFile,
    axes: Mapping[str, Axis],
    scale: Scale | None,
    folder: Path | None,
    types: KeyTypes,
    problems: list[str],
) -> Stage | None:
    """Return the stage of the section `baselines`, or None if there is none."""
    if file.baselines is None:
        return None
    if BASELINES in file.stages or FEATURES in axes:
        problems.append(
            f"baselines: the names of a stage {BASELINES} and of an axis {FEATURES} are taken. Rename yours."
        )
    entry = StageEntry(recipe=file.baselines.recipe, module=file.baselines.module, set=file.baselines.set)
    return _build_stage(BASELINES, entry, {}, scale, folder, types, problems, where=BASELINES)


def _find_recipe(path: Path, folder: Path | None) -> Path | None:
    """Return the file of a recipe, or None if there is none."""
    try:
        candidates = [root / path for root in (folder, Path(), REPOSITORY, REPOSITORY / "recipes") if root is not None]
        return next((candidate for candidate in candidates if candidate.is_file()), None)
    except (OSError, ValueError):
        return None
