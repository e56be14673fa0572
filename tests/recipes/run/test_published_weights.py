"""Published weights that stand for a stage: who starts from them, and what is said where they cannot be had."""

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from common.errors import UserError
from common.models import weight_files, weights
from common.models.networks import ModelConfig, build_network
from recipes.__main__ import main
from recipes.run.published_weights import describe, fetch_published
from recipes.stages import resolve_by_config
from recipes.study.plan import Plan, PlannedRun, make_plan, read_plan, write_plan
from recipes.study.specification import STUDIES, Published, Study
from recipes.study.study_file import build_study, load_study

RELEASED = "hf-hub:timm/vit_small_patch16_224.dino@733b42a211ebe03aa7327050699cfcee7cd96123"
"""DINO's ViT-S/16 of 800 epochs, at a commit of the hub."""
STUDIES_OF_IT = ("scaled_relu_table6", "scaled_relu_table7", "scaled_relu_linear_evaluation")


def planned(name: str, scale: str, *overrides: str) -> Plan:
    return make_plan(load_study(STUDIES / f"{name}.yaml", overrides, scale, (0,)), resolve_by_config)


def inits(plan: Plan) -> set[str]:
    return {word for run in plan.runs for word in run.overrides if word.startswith("init=")}


@pytest.mark.parametrize("name", STUDIES_OF_IT)
def test_the_papers_scale_starts_from_the_released_weights_and_the_others_train(name: str) -> None:
    plan = planned(name, "imagenet1k")
    assert inits(plan) == {f"init={RELEASED}"} and all(run.needs is None for run in plan.runs)
    assert "pretrain" not in {run.stage for run in plan.runs}
    assert any(RELEASED in note and "800 epochs" in note for note in plan.study.reading.notes)
    for scale in ("cifar10", "digits"):
        plan = planned(name, scale)
        assert inits(plan) == set() and "pretrain" in {run.stage for run in plan.runs}
        assert not any("not run" in note for note in plan.study.reading.notes)


@pytest.mark.parametrize("name", STUDIES_OF_IT)
def test_the_stage_is_run_after_all_where_that_is_asked_for(name: str) -> None:
    plan = planned(name, "imagenet1k", "pretrain.published=none", "pretrain.train.epochs=50")
    assert inits(plan) == set()
    (start,) = [run for run in plan.runs if run.stage == "pretrain"]
    assert "train.epochs=50" in start.overrides and {run.needs for run in plan.runs} >= {start.id}


def test_the_tables_of_a_hundred_epochs_train_them() -> None:
    for name in ("scaled_relu_table2_dino", "scaled_relu_table4_market1501", "scaled_relu_table4_msmt17"):
        assert inits(planned(name, "imagenet1k")) == set()


def test_other_weights_may_be_named_at_any_scale() -> None:
    for scale in ("imagenet1k", "digits"):
        assert inits(planned("scaled_relu_table6", scale, "pretrain.published=weights/dino.pth")) == {
            "init=weights/dino.pth"
        }


def test_keys_of_a_stage_that_is_not_run_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"pretrain\.train\.epochs: the stage pretrain is not run.*pretrain\.published=none"
    ):
        planned("scaled_relu_table6", "imagenet1k", "pretrain.train.epochs=50")


@pytest.mark.parametrize(
    ("name", "override", "told"),
    [
        (
            "scaled_relu_table6",
            "pretrian.published=none",
            r"pretrian\.published: no such stage\. Did you mean pretrain",
        ),
        ("scaled_relu_table6", "published=none", r"published: no such stage"),
        ("scaled_relu_table1", "pretrain.published=x", r"pretrain\.published: no such stage"),
        ("scaled_relu_table6", "finetune.published=x", r"finetune\.published = x: no stage starts from finetune"),
        ("scaled_relu_table6", "pretrain.published=false", r"pretrain\.published = False: needs weights"),
        ("scaled_relu_table6", "pretrain.published=[a, b]", r"pretrain\.published = \['a', 'b'\]: needs weights"),
        ("scaled_relu_table6", "pretrain.published=3", r"pretrain\.published = 3: needs weights"),
        ("scaled_relu_table6", 'pretrain.published=" "', r"pretrain\.published = ' ': needs weights"),
        (
            "scaled_relu_table2_dino",
            "pretrain.published=x",
            r"axes\.row varies pretrain\.optim\.lr: .*published=none to run it",
        ),
        ("scaled_relu_linear_evaluation", "linear.init=x", r"linear\.init = x: .* Give pretrain\.published=x"),
        ("scaled_relu_table6", "finetune.init=x", r"finetune\.init = x: what it starts from is the stage pretrain"),
    ],
)
def test_what_would_change_nothing_is_refused(name: str, override: str, told: str) -> None:
    for scale in ("imagenet1k", "digits"):
        with pytest.raises(UserError, match=told):
            planned(name, scale, override)


@pytest.mark.parametrize("none", ["none", "None", "null", "~"])
def test_none_is_none_however_it_is_written(none: str) -> None:
    assert inits(planned("scaled_relu_table6", "imagenet1k", f"pretrain.published={none}")) == set()


def test_an_entry_without_words_is_refused() -> None:
    study = load_study(STUDIES / "scaled_relu_table6.yaml", scale="imagenet1k")
    mapping: dict[str, Any] = copy.deepcopy(dict(study.mapping))
    mapping["stages"]["pretrain"]["published"] = {"init": "x", "epochs": 3}
    with pytest.raises(UserError, match=r"stages\.pretrain\.published\.epochs: unknown key") as told:
        build_study(mapping, "x.yaml")
    assert "stages.pretrain.published.told: missing" in str(told.value)
    mapping["stages"]["pretrain"]["published"] = {"init": 5, "told": ""}
    with pytest.raises(UserError, match=r"published\.init = 5: needs weights, as text") as told:
        build_study(mapping, "x.yaml")
    assert "published.told = '': needs words" in str(told.value)


def test_weights_are_known_by_what_they_hold(tmp_path: Path) -> None:
    """The same path with other weights is another run, the same weights at another path are not taken for the same path."""

    def named(path: Path) -> set[str]:
        return {
            run.digest for run in planned("scaled_relu_linear_evaluation", "digits", f"pretrain.published={path}").runs
        }

    weights, folder = tmp_path / "weights.safetensors", tmp_path / "run" / "export"
    assert named(weights) == named(weights)
    absent = named(weights)
    weights.write_bytes(b"one")
    first = named(weights)
    weights.write_bytes(b"two")
    assert len({frozenset(absent), frozenset(first), frozenset(named(weights))}) == 3
    weights.write_bytes(b"one")
    assert named(weights) == first
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"one")
    before = named(folder.parent)
    (folder / "model.safetensors").write_bytes(b"three")
    assert named(folder.parent) != before


def test_weights_are_not_fetched_for_runs_that_a_neighbour_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned("scaled_relu_linear_evaluation", "imagenet1k")
    for run in plan.runs:
        place = tmp_path / "there" / "runs" / run.id
        place.mkdir(parents=True)
        facts = dict.fromkeys(
            ("step", "seconds", "images", "images_per_second", "parameters", "train_images", "num_processes"), 1
        )
        (place / "result.json").write_text(
            json.dumps({"verdict": "finished", "reason": "", "metrics": {"test_top1": 70.0}, **facts})
        )
    monkeypatch.setattr(weight_files, "read_weights", lambda init: pytest.fail("fetched"))
    words = ["scaled_relu_linear_evaluation", "--scale", "imagenet1k", "--seeds", "0", "--out", str(tmp_path / "here")]
    assert main(["run", *words]) == 0
    assert f"{len(plan.runs)} done, 0 to go" in capsys.readouterr().out


def test_weights_that_cannot_be_had_are_one_error_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def offline(name: str, **_: Any) -> Any:
        asked.append(name)
        raise ConnectionError("no network here")

    monkeypatch.setattr(weight_files.timm, "create_model", offline)
    out = tmp_path / "study"
    words = ["run", "scaled_relu_linear_evaluation", "--scale", "imagenet1k", "--out", str(out)]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "pretrain.published: the weights that DINO's authors released" in said and "no network here" in said
    assert "pretrain.published=none" in said and said.count("error:") == 1
    assert asked == [RELEASED] and not out.exists()


def test_weights_are_fetched_only_for_runs_that_start_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned("scaled_relu_table6", "imagenet1k")
    fetched: list[str] = []
    monkeypatch.setattr(weight_files, "read_weights", lambda init: fetched.append(init))
    monkeypatch.setattr(weights, "load_init", lambda network, init, image_size: None)
    one_stage = [run for run in plan.runs if not any(word.startswith("init=") for word in run.overrides)]
    fetch_published(plan.study, one_stage)
    assert len(one_stage) == 2 and fetched == []
    fetch_published(plan.study, plan.runs)
    assert fetched == [RELEASED]
    assert plan.study.stages[0].published == Published(
        RELEASED, "the weights that DINO's authors released, ViT-S/16 of 800 epochs"
    )


def test_the_recipe_of_table_7_starts_from_them_too() -> None:
    recipe = STUDIES.parent / "imagenet1k" / "two_stage_sam.yaml"
    assert resolve_by_config("finetune", recipe, ())["init"] == RELEASED


@pytest.fixture
def small_weights(tmp_path: Path) -> Path:
    """Return a file of weights that fit the patchify network of the digits."""
    path = tmp_path / "weights.safetensors"
    save_file(network_of("vit_mini"), path)
    return path


def network_of(name: str) -> dict[str, Any]:
    model = ModelConfig(name=name, patch_size=4, stem="patchify")
    return {
        key: tensor.contiguous()
        for key, tensor in build_network(model, image_size=12, num_classes=0).state_dict().items()
    }


def of_weights(init: str, **more: str) -> tuple[Study, tuple[PlannedRun, ...]]:
    """Return the linear evaluation on the digits, its networks' weights written as published, and its runs."""
    source = yaml.safe_load((STUDIES / "scaled_relu_linear_evaluation.yaml").read_text())
    source["stages"]["pretrain"] |= {"recipe": "recipes/digits/pretrain.yaml"}
    source["stages"]["linear"] |= {"recipe": "recipes/digits/linear.yaml"}
    source["stages"]["pretrain"]["published"] = {"init": init, "told": "small weights", **more}
    study = build_study({**source, "scale": "imagenet1k"}, "x.yaml")
    return study, make_plan(study, resolve_by_config).runs


def test_the_digest_of_what_was_fetched_is_checked_told_and_noted(small_weights: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(small_weights.read_bytes()).hexdigest()
    for more in ({}, {"sha256": digest}, {"sha256": digest.upper()}):
        study, runs = of_weights(str(small_weights), **more)
        found = fetch_published(study, runs)
        assert found == {"pretrain": {"init": str(small_weights), "file": str(small_weights), "sha256": digest}}
    assert describe(found) == [f"pretrain.published: {small_weights}, sha256 {digest} ({small_weights})"]
    plan = make_plan(study, resolve_by_config)
    write_plan(plan, tmp_path / "study", found)
    write_plan(plan, tmp_path / "study")  # a later call, which had nothing to fetch
    assert yaml.safe_load((tmp_path / "study" / "study.yaml").read_text())["published"] == found
    assert read_plan(tmp_path / "study").runs == plan.runs


def test_a_file_of_another_digest_is_refused_before_anything_starts(small_weights: Path) -> None:
    study, runs = of_weights(str(small_weights), sha256="0" * 64)
    with pytest.raises(UserError) as caught:
        fetch_published(study, runs)
    digest = hashlib.sha256(small_weights.read_bytes()).hexdigest()
    for part in ("pretrain.published", str(small_weights), digest, "0" * 64, "nothing was started", "correct sha256"):
        assert part in str(caught.value)


def test_the_digest_is_that_of_the_file_in_the_hubs_cache(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "733b42a211ebe03aa7327050699cfcee7cd96123"
    cached = tmp_path / "hub" / "models--some--network" / "snapshots" / commit / "model.safetensors"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(small_weights.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weight_files, "read_weights", lambda init: None)
    monkeypatch.setattr(weights, "load_init", lambda network, init, image_size: None)
    study, runs = of_weights(f"hf-hub:some/network@{commit}")
    digest = hashlib.sha256(cached.read_bytes()).hexdigest()
    assert fetch_published(study, runs)["pretrain"] == {
        "init": f"hf-hub:some/network@{commit}", "file": str(cached), "sha256": digest,
    }  # fmt: skip
    study, runs = of_weights(f"hf-hub:some/other@{commit}")
    assert fetch_published(study, runs)["pretrain"]["sha256"] == "unknown"
    study, runs = of_weights(f"hf-hub:some/other@{commit}", sha256=digest)
    with pytest.raises(UserError, match="lies in no file whose SHA-256 could be told"):
        fetch_published(study, runs)


@pytest.mark.parametrize("digest", ["abc", "g" * 64, 5, 0.5])
def test_what_is_no_digest_is_refused(digest: Any) -> None:
    with pytest.raises(UserError, match=r"stages\.pretrain\.published\.sha256 = .*needs the 64 hexadecimal digits"):
        of_weights("x", sha256=digest)


def test_weights_that_do_not_fit_are_one_error_before_anything_starts(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(network_of("vit_micro"), small_weights)
    words = ["scaled_relu_table6", "--scale", "digits", "--seeds", "0", "--out", str(tmp_path / "study")]
    assert main(["run", *words, f"pretrain.published={small_weights}"]) == 2
    said = capsys.readouterr().err
    assert said.count("error:") == 1 and "do not fit what starts from them, and nothing was started" in said
    assert "6 of finetune with model.name=vit_mini at 12 px" in said and "misshapen" in said
    assert "pretrain.published=none" in said and not (tmp_path / "study").exists()


def test_weights_that_fit_pass_with_a_classifier_of_any_class_count(small_weights: Path) -> None:
    more = {"head.weight": torch.zeros(7, 64), "head.bias": torch.zeros(7)}
    for content in (network_of("vit_mini"), network_of("vit_mini") | more):
        save_file(content, small_weights)
        for name in STUDIES_OF_IT:
            plan = planned(name, "digits", f"pretrain.published={small_weights}")
            assert set(fetch_published(plan.study, plan.runs)) == {"pretrain"}
