"""Study files: settings of the stages, and errors."""

import copy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import TypeAdapter

from common.config import Config
from common.config_help import file_schema
from common.errors import UserError
from common.yaml_text import read_yaml
from recipes.stages import resolve_by_config
from recipes.study.plan import make_plan
from recipes.study.report_specification import TableReportSpec
from recipes.study.scales import ScaleFile
from recipes.study.sections import Level
from recipes.study.specification import STUDIES, Study
from recipes.study.stored_plan import read_plan, write_plan
from recipes.study.study_file import build_study, find_study, load_study
from recipes.study.study_sections import StudyFile


def error_message(study_file: Path, **changed: Any) -> str:
    """Return the error message for `study_file` with some of its sections changed."""
    mapping = yaml.safe_load(study_file.read_text()) | changed
    study_file.write_text(yaml.safe_dump(mapping, sort_keys=False))
    with pytest.raises(UserError) as caught:
        load_study(study_file)
    return str(caught.value)


def test_keys_with_a_stage_as_prefix_apply_only_to_that_stage(study: Study) -> None:
    pretrain, finetune = study.stages
    levels = {"stem": "conv", "training": "TST", "fraction": "0.25", "seed": "1"}
    assert study.settings(pretrain, levels) == {"model.stem": "conv", "train.seed": 1}
    assert study.settings(finetune, levels) == {
        "model.stem": "conv",
        "data.fraction": 0.25,
        "train.seed": 1,
        "data.subset_seed": 1,
    }
    assert study.start_of(finetune, levels) == "pretrain" and study.start_of(pretrain, levels) is None
    assert study.start_of(finetune, {**levels, "training": "OST"}) is None


def test_an_axis_affects_the_stages_whose_keys_it_sets(study: Study) -> None:
    pretrain, finetune = study.stages
    assert [study.affects(axis, pretrain) for axis in study.axes] == [True, False, False, True]
    assert all(study.affects(axis, finetune) for axis in study.axes)


def test_overrides_apply_last_to_all_stages_or_to_one(study_file: Path) -> None:
    study = load_study(study_file, ("data.source=photos", "finetune.train.epochs=5"))
    levels = {"stem": "conv", "training": "OST", "fraction": "1", "seed": "0"}
    pretrain, finetune = (study.settings(stage, levels) for stage in study.stages)
    assert pretrain["data.source"] == finetune["data.source"] == "photos"
    assert finetune["train.epochs"] == 5
    assert "train.epochs" not in pretrain


def test_an_override_has_precedence_over_the_settings_of_a_stage(study_file: Path) -> None:
    mapping = yaml.safe_load(study_file.read_text())
    mapping["stages"]["finetune"]["set"] = {"train.epochs": 60}
    study_file.write_text(yaml.safe_dump(mapping, sort_keys=False))
    study = load_study(study_file, ("finetune.train.epochs=5",))
    levels = {"stem": "conv", "training": "OST", "fraction": "1", "seed": "0"}
    assert study.settings(study.stages[1], levels)["train.epochs"] == 5


def test_an_override_of_a_key_that_an_axis_varies_is_an_error(study_file: Path) -> None:
    with pytest.raises(UserError, match=r"finetune\.data\.fraction: the axis fraction varies it"):
        load_study(study_file, ("finetune.data.fraction=0.3",))


def test_space_around_the_key_of_an_override_does_not_count(study_file: Path) -> None:
    study = load_study(study_file, ("finetune.train.epochs = 5", " tune = none"))
    assert study.stages[1].overrides == {"finetune.train.epochs": 5} and study.tune is None


def test_a_word_that_is_not_an_override_is_an_error(study_file: Path) -> None:
    with pytest.raises(UserError, match="epochs: an override is key=value"):
        load_study(study_file, ("epochs",))


def test_unknown_keys_suggest_the_nearest_and_all_errors_are_reported_together(study_file: Path) -> None:
    message = error_message(study_file, reprot={}, stages={"pretrain": {"recipe": "pretrain.yaml", "sets": {}}})
    assert "reprot: unknown key. Did you mean report?" in message
    assert "stages.pretrain.sets: unknown key. Did you mean set?" in message
    assert "axes.training.levels.TST.starts_from.finetune" not in message


def test_all_missing_sections_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("name: empty\n")
    with pytest.raises(UserError) as caught:
        load_study(path)
    assert all(f"{key}: missing" in str(caught.value) for key in ("question", "stages", "axes", "report"))


def test_a_missing_recipe_is_an_error(study_file: Path) -> None:
    assert "stages.pretrain.recipe = none.yaml: no such file" in error_message(
        study_file, stages={"pretrain": {"recipe": "none.yaml"}, "finetune": {"recipe": "finetune.yaml"}}
    )


def test_a_seed_that_is_given_twice_is_an_error(study_file: Path) -> None:
    """It was one repeat fewer than was asked for, and nothing said so."""
    with pytest.raises(UserError, match="seeds: 0 is there twice. Remove one of them"):
        load_study(study_file, seeds=(0, 0, 1))


def test_seeds_that_no_axis_uses_are_an_error(study_file: Path) -> None:
    axes = yaml.safe_load(study_file.read_text())["axes"] | {"seed": {"levels": {"0": {"train.seed": 0}}}}
    assert "seeds = [1, 2]: axes.seed has no list of values" in error_message(study_file, axes=axes, seeds=[1, 2])


def test_a_start_must_be_a_stage(study_file: Path) -> None:
    axes = yaml.safe_load(study_file.read_text())["axes"]
    axes["training"]["levels"]["TST"] = {"starts_from": {"finetune": "pretrian"}}
    message = error_message(study_file, axes=axes)
    assert "axes.training.levels.TST.starts_from.finetune = pretrian: no such stage. Did you mean pretrain?" in message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x", "labels", "report.x = labels: no such axis. Known axes: stem, training, fraction, seed."),
        ("x", "stem", "report.x: level patchify of stem is not a number."),
        (
            "compare",
            {"training": ["OST"]},
            "must be two different levels of an axis, [base, other]; training has OST, TST",
        ),
        (
            "compare",
            {"training": ["TST", "TST"]},
            "must be two different levels of an axis, [base, other]; training has",
        ),
        ("compare", {"fraction": [0.1, 1.0]}, "report.compare.fraction: is report.x, too. Compare levels of another"),
        ("compare", {"seed": [0, 1]}, "report.compare.seed: is report.repeats, too."),
        ("x", "seed", "report.repeats = seed: is report.x, too. Name the axis of the seeds, or another x."),
        ("compare", {"stems": ["a", "b"]}, "stems has none"),
    ],
)
def test_the_report_must_match_the_axes(study_file: Path, key: str, value: Any, message: str) -> None:
    report = yaml.safe_load(study_file.read_text())["report"] | {key: value}
    assert message in error_message(study_file, report=report)


@pytest.mark.parametrize(
    "axis", [{"key": "a"}, {"values": [1]}, {"key": "a", "values": []}, {"key": "a", "levels": {"b": {}}}]
)
def test_an_axis_has_levels_or_a_key_with_values(study: Study, axis: dict[str, Any]) -> None:
    mapping = copy.deepcopy(dict(study.mapping))
    mapping["axes"]["fraction"] = axis
    with pytest.raises(UserError, match=r"axes\.fraction"):
        build_study(mapping, "x.yaml")


def test_invalid_yaml_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "invalid.yaml"
    path.write_text("name: [unclosed\n")
    with pytest.raises(UserError, match=r"invalid\.yaml: not readable as YAML"):
        load_study(path)


def test_the_error_for_an_unknown_study_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match=r"quickstrat: neither a study nor a file\. Did you mean quickstart\?"):
        find_study("quickstrat")


def test_every_study_of_the_repository_loads() -> None:
    paths = sorted(STUDIES.glob("*.yaml"))
    assert paths
    for path in paths:
        assert load_study(path, scale=(yaml.safe_load(path.read_text()).get("scales") or [None])[0]).name == path.stem


TEXT = """
name: text
question: Does text stay text?
stages:
  pretrain: {recipe: recipes/digits/pretrain.yaml}
  finetune: {recipe: recipes/digits/finetune.yaml, set: {data.revision: 010}}
axes:
  on: {levels: {on: {}, off: {finetune.optim.lr: 1.0e-3}, 010: {}, 1e3: {starts_from: {finetune: pretrain}}}}
  source: {key: data.source, values: [2024_05_01, 010, no, 1.0, "1e3"]}
  decay: {key: finetune.optim.weight_decay, values: [1.0e-1, 2_0e-2]}
  seed: {key: train.seed, values: [0]}
report:
  metrics: {top1: test_top1}
  repeats: seed
  figure: {kind: curve, x: decay}
  titles: {no: 010}
  pairs: [{claim: yes, base: {on: off, decay: 1.0e-1, source: 010}, other: {on: 1e3, decay: 0.2, source: no}}]
"""


def test_text_stays_text_and_numbers_stay_numbers(tmp_path: Path) -> None:
    (tmp_path / "text.yaml").write_text(TEXT)
    study = load_study(tmp_path / "text.yaml", ("data.revision=1_0",))
    on, source, decay, _ = study.axes
    assert list(on.levels) == ["on", "off", "010", "1e3"]
    assert on.levels["off"] == {"finetune.optim.lr": 0.001} and on.starts_from == {"1e3": {"finetune": "pretrain"}}
    assert list(source.levels) == ["2024_05_01", "010", "no", "1.0", "1e3"]
    assert [settings["data.source"] for settings in source.levels.values()] == list(source.levels)
    assert {level: list(settings.values()) for level, settings in decay.levels.items()} == {"0.1": [0.1], "0.2": [0.2]}
    assert study.stages[1].settings == {"data.revision": "010"}
    assert study.stages[1].overrides == {"data.revision": "1_0"}
    assert isinstance(study.report, TableReportSpec) and study.report.titles == {"no": "010"}
    assert study.report.pairs[0].base == {"on": "off", "decay": 0.1, "source": "010"}


def test_a_written_plan_keeps_text(tmp_path: Path) -> None:
    (tmp_path / "text.yaml").write_text(TEXT)
    plan = make_plan(load_study(tmp_path / "text.yaml", ("data.revision=1_0",)), resolve_by_config)
    write_plan(plan, tmp_path / "study")
    assert read_plan(tmp_path / "study") == plan
    assert {run.levels["source"] for run in plan.runs} == {"2024_05_01", "010", "no", "1.0", "1e3"}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"axes": {"training": {"levels": {"TST": {"finetune.needs": "pretrain"}}}}},
            "axes.training.levels.TST.finetune.needs: what a stage starts from has a field of its own, beside set. Replace it by"
            " starts_from: pretrain in the stage, or by starts_from: {finetune: pretrain} in a level.",
        ),
        (
            {"stages": {"finetune": {"set": {"needs": "pretrain"}}}},
            "stages.finetune.set.needs: what a stage starts from has a field of its own",
        ),
        (
            {"set": {"finetune.needs": "pretrain"}},
            "set.finetune.needs: what a stage starts from has a field of its own",
        ),
        (
            {"stages": {"finetune": {"set": {"optim.lr*": 2}}}},
            "stages.finetune.set.optim.lr*: a factor has a field of its own, beside set. Replace it by factors: {optim.lr: 2}.",
        ),
        (
            {"axes": {"draw": {"draws": 2, "keys": {"optim.lr*": [0.5, 2]}}}},
            "axes.draw.keys.optim.lr*: a factor has a field of its own, beside keys. Replace it by factors: {optim.lr: ...}.",
        ),
        (
            {"axes": {"lr": {"key": "optim.lr*", "values": [1, 2]}}},
            "axes.lr.key.optim.lr*: a factor has a field of its own",
        ),
        (
            {"report": {"metrics": {"top1": "validation_top1@0.25"}, "repeats": "seed", "figure": {"kind": "rows"}}},
            "report.metrics.top1 = validation_top1@0.25: the part of the epochs has a field of its own. Replace it by"
            " {metric: validation_top1, at: 0.25}.",
        ),
    ],
)
def test_the_error_for_old_syntax_names_the_field(study_file: Path, sections: dict[str, Any], message: str) -> None:
    mapping = yaml.safe_load(study_file.read_text())
    for name, entries in sections.items():
        for key, entry in entries.items() if name in ("stages", "axes") else ():
            entries[key] = mapping[name].get(key, {}) | entry if name == "stages" else entry
        sections[name] = mapping[name] | entries if name in ("stages", "axes") else entries
    found = error_message(study_file, **sections)
    assert message in found and found.count("has a field of its own") == 1


def test_a_level_with_fields_of_its_own_has_its_settings_in_set(study_file: Path) -> None:
    axes = yaml.safe_load(study_file.read_text())["axes"]
    axes["training"]["levels"]["TST"] = {"starts_from": {"finetune": "pretrain"}, "optim.lr": 1}
    message = error_message(study_file, axes=axes)
    assert "axes.training.levels.TST.optim.lr: unknown key. Known keys: set, factors, starts_from." in message


def test_a_level_can_start_a_stage_from_no_run(study_file: Path) -> None:
    mapping = yaml.safe_load(study_file.read_text())
    mapping["stages"]["finetune"]["starts_from"] = "pretrain"
    mapping["axes"]["training"]["levels"] = {"OST": {"starts_from": {"finetune": "none"}}, "TST": {}}
    study = build_study(mapping, "x.yaml")
    levels = {"stem": "conv", "training": "TST", "fraction": "0.25", "seed": "1"}
    assert study.start_of(study.stages[1], levels) == "pretrain"
    assert study.start_of(study.stages[1], {**levels, "training": "OST"}) is None
    assert study.affects(study.axes[1], study.stages[1]) and not study.affects(study.axes[1], study.stages[0])


def test_problems_between_the_valid_sections_of_an_invalid_file_are_reported(study_file: Path) -> None:
    mapping = yaml.safe_load(study_file.read_text())
    stages = mapping["stages"] | {"extra": {"recipe": 3, "modul": "x"}}
    message = error_message(study_file, stages=stages, report=mapping["report"] | {"x": "labels"}, seeds=[-1])
    assert message.splitlines()[0] == f"study {study_file}: 3 problems"
    assert "stages.extra.modul: unknown key. Did you mean module?" in message
    assert "seeds[0]" in message or "seeds: " in message
    assert "report.x = labels: no such axis" in message


@pytest.mark.parametrize(("cls", "pattern"), [(StudyFile, "*.yaml"), (ScaleFile, "scales/*.yaml")])
def test_the_json_schema_accepts_every_file_of_the_repository(cls: type[Config], pattern: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = file_schema(cls)
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    paths = sorted(STUDIES.glob(pattern))
    assert paths
    for path in paths:
        assert [error.message for error in validator.iter_errors(read_yaml(path.read_text()))] == [], path
    content = read_yaml(paths[0].read_text()) | {"reprot": 1}
    assert not validator.is_valid(content)


def sections_of(hint: Any) -> set[type[Config]]:
    """Return the sections in a type."""
    if isinstance(hint, type) and issubclass(hint, Config):
        inner = [sections_of(field.annotation) for field in hint.model_fields.values()]
        return {hint}.union(*inner)
    return set().union(*map(sections_of, get_args(hint)))


def test_every_field_of_study_and_scale_files_has_a_docstring() -> None:
    sections = sections_of(StudyFile) | sections_of(ScaleFile)
    assert len(sections) >= 16
    missing = [
        f"{cls.__name__}.{name}" for cls in sections for name, f in cls.model_fields.items() if not f.description
    ]
    assert missing == []


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "~nobody-by-this-name/r.yaml", ""])
def test_a_recipe_that_no_file_can_have_is_missing_at_a_scale_too(tmp_path: Path, name: str) -> None:
    mapping = yaml.safe_load((STUDIES / "scaled_relu_table1.yaml").read_text())
    (stage,) = mapping["stages"]
    mapping["stages"][stage]["recipe"] = name
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(mapping))
    with pytest.raises(UserError, match=f"stages.{stage}.recipe = .*: no such file"):
        load_study(path, scale="digits")


def test_what_a_stage_starts_from_can_be_written_as_a_dotted_key() -> None:
    short, long = ({"finetune.starts_from": "pretrain"}, {"starts_from": {"finetune": "pretrain"}})
    levels = [TypeAdapter(Level).validate_python(level) for level in (short, long, {**short, "optim.lr": 1e-3})]
    assert (
        levels[0] == levels[1]
        and levels[2].set == {"optim.lr": 1e-3}
        and levels[2].starts_from == levels[0].starts_from
    )
