"""Published weights that replace a stage: the runs that start from them, and errors about the weights."""

import copy
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from common.errors import UserError
from common.models import hub, init_network, weight_files, weights
from common.models.networks import ModelConfig, build_network
from recipes.__main__ import main
from recipes.run.fetch_weights import describe, fetch_published, fetch_starts
from recipes.stages import resolve_by_config
from recipes.study.plan import Plan, PlannedRun, make_plan
from recipes.study.specification import STUDIES, PublishedWeights, Study
from recipes.study.stored_plan import read_plan, write_plan
from recipes.study.study_file import build_study, load_study

RELEASED = "hf-hub:timm/vit_small_patch16_224.dino@733b42a211ebe03aa7327050699cfcee7cd96123"
"""DINO's ViT-S/16 of 800 epochs, at a commit of the Hub."""
STUDIES_WITH_WEIGHTS = ("scaled_relu_table6", "scaled_relu_table7", "scaled_relu_linear_evaluation")


def planned(name: str, scale: str, *overrides: str) -> Plan:
    return make_plan(load_study(STUDIES / f"{name}.yaml", overrides, scale, (0,)), resolve_by_config)


def inits(plan: Plan) -> set[str]:
    return {word for run in plan.runs for word in run.overrides if word.startswith("init=")}


def test_no_patch_of_these_tests_outlasts_them() -> None:
    """What reads weights for a recipe is imported before `read_weights` is patched, and so keeps the real one."""
    assert init_network.read_weights is weight_files.read_weights


@pytest.mark.parametrize("name", STUDIES_WITH_WEIGHTS)
def test_only_the_papers_scale_starts_from_the_released_weights(name: str) -> None:
    plan = planned(name, "imagenet1k")
    assert inits(plan) == {f"init={RELEASED}"} and all(run.needs is None for run in plan.runs)
    assert "pretrain" not in {run.stage for run in plan.runs}
    assert any(RELEASED in note and "800 epochs" in note for note in plan.study.report.notes)
    for scale in ("cifar10", "digits"):
        plan = planned(name, scale)
        assert inits(plan) == set() and "pretrain" in {run.stage for run in plan.runs}
        assert not any("not run" in note for note in plan.study.report.notes)


@pytest.mark.parametrize("name", STUDIES_WITH_WEIGHTS)
def test_published_none_runs_the_stage(name: str) -> None:
    plan = planned(name, "imagenet1k", "pretrain.published=none", "pretrain.train.epochs=50")
    assert inits(plan) == set()
    (start,) = [run for run in plan.runs if run.stage == "pretrain"]
    assert "train.epochs=50" in start.overrides and {run.needs for run in plan.runs} >= {start.id}


def test_tables_of_100_epochs_do_not_use_published_weights() -> None:
    for name in ("scaled_relu_table2_dino", "scaled_relu_table4_market1501", "scaled_relu_table4_msmt17"):
        assert inits(planned(name, "imagenet1k")) == set()


def test_other_weights_can_be_given_at_any_scale() -> None:
    for scale in ("imagenet1k", "digits"):
        assert inits(planned("scaled_relu_table6", scale, "pretrain.published=weights/dino.pth")) == {
            "init=weights/dino.pth"
        }


def test_keys_of_a_replaced_stage_are_an_error() -> None:
    with pytest.raises(
        UserError, match=r"pretrain\.train\.epochs: the stage pretrain is not run.*pretrain\.published=none"
    ):
        planned("scaled_relu_table6", "imagenet1k", "pretrain.train.epochs=50")


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        (
            "scaled_relu_table6",
            "pretrian.published=none",
            r"pretrian\.published: no such stage\. Did you mean pretrain",
        ),
        ("scaled_relu_table6", "published=none", r"published: no such stage"),
        ("scaled_relu_table1", "pretrain.published=x", r"pretrain\.published: no such stage"),
        ("scaled_relu_table6", "finetune.published=x", r"finetune\.published = x: no stage starts from finetune"),
        ("scaled_relu_table6", "pretrain.published=false", r"pretrain\.published = False: must be weights"),
        ("scaled_relu_table6", "pretrain.published=[a, b]", r"pretrain\.published = \['a', 'b'\]: must be weights"),
        ("scaled_relu_table6", "pretrain.published=3", r"pretrain\.published = 3: must be weights"),
        ("scaled_relu_table6", 'pretrain.published=" "', r"pretrain\.published = ' ': must be weights"),
        (
            "scaled_relu_table2_dino",
            "pretrain.published=x",
            r"axes\.row varies pretrain\.optim\.lr: .*published=none to run it",
        ),
        ("scaled_relu_linear_evaluation", "linear.init=x", r"linear\.init = x: .* Set pretrain\.published=x"),
        ("scaled_relu_table6", "finetune.init=x", r"finetune\.init = x: the stage starts from the stage pretrain"),
    ],
)
def test_an_override_without_effect_is_an_error(name: str, override: str, message: str) -> None:
    for scale in ("imagenet1k", "digits"):
        with pytest.raises(UserError, match=message):
            planned(name, scale, override)


@pytest.mark.parametrize("none", ["none", "None", "null", "~"])
def test_every_spelling_of_none_runs_the_stage(none: str) -> None:
    assert inits(planned("scaled_relu_table6", "imagenet1k", f"pretrain.published={none}")) == set()


def test_an_entry_needs_init_and_a_description() -> None:
    study = load_study(STUDIES / "scaled_relu_table6.yaml", scale="imagenet1k")
    mapping: dict[str, Any] = copy.deepcopy(dict(study.mapping))
    mapping["stages"]["pretrain"]["published"] = {"init": "x", "epochs": 3}
    with pytest.raises(UserError, match=r"stages\.pretrain\.published\.epochs: unknown key") as caught:
        build_study(mapping, "x.yaml")
    assert "stages.pretrain.published.description: missing" in str(caught.value)
    mapping["stages"]["pretrain"]["published"] = {"init": 5, "description": ""}
    with pytest.raises(UserError, match=r"published\.init = 5: must name the weights, as text") as caught:
        build_study(mapping, "x.yaml")
    assert "published.description = '': must describe the weights" in str(caught.value)


def test_runs_depend_on_the_content_of_the_weights(tmp_path: Path) -> None:
    """Other weights at the same path make other runs, and the same bytes are the same run."""

    def digests(path: Path) -> set[str]:
        return {
            run.digest for run in planned("scaled_relu_linear_evaluation", "digits", f"pretrain.published={path}").runs
        }

    weights, folder = tmp_path / "weights.safetensors", tmp_path / "run" / "export"
    assert digests(weights) == digests(weights)
    absent = digests(weights)
    weights.write_bytes(b"one")
    first = digests(weights)
    weights.write_bytes(b"two")
    assert len({frozenset(absent), frozenset(first), frozenset(digests(weights))}) == 3
    weights.write_bytes(b"one")
    assert digests(weights) == first
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"one")
    before = digests(folder.parent)
    (folder / "model.safetensors").write_bytes(b"three")
    assert digests(folder.parent) != before


def test_weights_are_not_fetched_for_runs_of_a_neighbor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = planned("scaled_relu_linear_evaluation", "imagenet1k")
    for run in plan.runs:
        place = tmp_path / "there" / "runs" / run.id
        place.mkdir(parents=True)
        fields = dict.fromkeys(
            ("step", "seconds", "images", "images_per_second", "parameters", "train_images", "num_processes"), 1
        )
        (place / "result.json").write_text(
            json.dumps({"status": "finished", "reason": "", "metrics": {"test_top1": 70.0}, **fields})
        )
    monkeypatch.setattr(weight_files, "read_weights", lambda init: pytest.fail("fetched"))
    arguments = [
        "scaled_relu_linear_evaluation",
        "--scale",
        "imagenet1k",
        "--seeds",
        "0",
        "--out",
        str(tmp_path / "here"),
    ]
    assert main(["run", *arguments]) == 0
    assert f"{len(plan.runs)} done, 0 remaining" in capsys.readouterr().out


def test_weights_that_cannot_be_fetched_are_one_error_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requested = []

    def offline(repository: str, init: str) -> Any:
        requested.append(init)
        raise UserError("init: no network here")

    monkeypatch.setattr(weight_files, "fetch_weights", offline)
    out = tmp_path / "study"
    arguments = ["run", "scaled_relu_linear_evaluation", "--scale", "imagenet1k", "--out", str(out)]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "pretrain.published: the weights released by DINO's authors" in error and "no network here" in error
    assert "pretrain.published=none" in error and error.count("error:") == 1
    assert requested == [RELEASED] and not out.exists()


def test_weights_are_fetched_only_for_runs_that_start_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned("scaled_relu_table6", "imagenet1k")
    fetched: list[str] = []
    monkeypatch.setattr(weight_files, "read_weights", lambda init: fetched.append(init))
    monkeypatch.setattr(weights, "load_init", lambda network, init: None)
    one_stage = [run for run in plan.runs if not any(word.startswith("init=") for word in run.overrides)]
    fetch_published(plan.study, one_stage)
    assert len(one_stage) == 2 and fetched == []
    fetch_published(plan.study, plan.runs)
    assert fetched == [RELEASED]
    assert plan.study.stages[0].published == PublishedWeights(
        RELEASED, "the weights released by DINO's authors, ViT-S/16, 800 epochs"
    )


def test_the_recipe_of_table_7_starts_from_the_released_weights() -> None:
    recipe = STUDIES.parent / "imagenet1k" / "two_stage_sam.yaml"
    assert resolve_by_config("finetune", recipe, ())["init"] == RELEASED


@pytest.fixture
def small_weights(tmp_path: Path) -> Path:
    """Return a file of weights that fit the digits network with the patchify stem."""
    path = tmp_path / "weights.safetensors"
    save_file(network_of("vit_mini"), path)
    return path


def network_of(name: str) -> dict[str, Any]:
    model = ModelConfig(name=name, patch_size=4, stem="patchify")
    return {
        key: tensor.contiguous()
        for key, tensor in build_network(model, image_size=12, num_classes=0).state_dict().items()
    }


def study_with_weights(init: str, **more: str) -> tuple[Study, tuple[PlannedRun, ...]]:
    """Return the linear evaluation on the digits with these published weights, and its runs."""
    source = yaml.safe_load((STUDIES / "scaled_relu_linear_evaluation.yaml").read_text())
    source["stages"]["pretrain"] |= {"recipe": "recipes/digits/pretrain.yaml"}
    source["stages"]["linear"] |= {"recipe": "recipes/digits/linear.yaml"}
    source["stages"]["pretrain"]["published"] = {"init": init, "description": "small weights", **more}
    study = build_study({**source, "scale": "imagenet1k"}, "x.yaml")
    return study, make_plan(study, resolve_by_config).runs


def test_the_digest_of_fetched_weights_is_verified_printed_and_stored(small_weights: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(small_weights.read_bytes()).hexdigest()
    for more in ({}, {"sha256": digest}, {"sha256": digest.upper()}):
        study, runs = study_with_weights(str(small_weights), **more)
        found = fetch_published(study, runs)
        assert found == {"pretrain": {"init": str(small_weights), "file": str(small_weights), "sha256": digest}}
    assert describe(found) == [f"pretrain.published: {small_weights}, sha256 {digest} ({small_weights})"]
    plan = make_plan(study, resolve_by_config)
    write_plan(plan, tmp_path / "study", found)
    write_plan(plan, tmp_path / "study")  # a later call that fetched nothing
    assert yaml.safe_load((tmp_path / "study" / "study.yaml").read_text())["published"] == found
    assert read_plan(tmp_path / "study").runs == plan.runs


def test_a_file_with_another_digest_is_an_error_before_anything_starts(small_weights: Path) -> None:
    study, runs = study_with_weights(str(small_weights), sha256="0" * 64)
    with pytest.raises(UserError) as caught:
        fetch_published(study, runs)
    digest = hashlib.sha256(small_weights.read_bytes()).hexdigest()
    for part in ("pretrain.published", str(small_weights), digest, "0" * 64, "nothing was started", "correct sha256"):
        assert part in str(caught.value)


def test_the_digest_is_that_of_the_file_in_the_cache_of_the_hub(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "733b42a211ebe03aa7327050699cfcee7cd96123"
    cached = tmp_path / "hub" / "models--some--network" / "snapshots" / commit / "model.safetensors"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(small_weights.read_bytes())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weight_files, "read_weights", lambda init: None)
    monkeypatch.setattr(weights, "load_init", lambda network, init: None)
    study, runs = study_with_weights(f"hf-hub:some/network@{commit}")
    digest = hashlib.sha256(cached.read_bytes()).hexdigest()
    assert fetch_published(study, runs)["pretrain"] == {
        "init": f"hf-hub:some/network@{commit}", "file": str(cached), "sha256": digest,
    }  # fmt: skip
    study, runs = study_with_weights(f"hf-hub:some/other@{commit}")
    assert fetch_published(study, runs)["pretrain"]["sha256"] == "unknown"
    study, runs = study_with_weights(f"hf-hub:some/other@{commit}", sha256=digest)
    with pytest.raises(UserError, match="the file of small weights was not found, but the study declares"):
        fetch_published(study, runs)


@pytest.mark.parametrize("digest", ["abc", "g" * 64, 5, 0.5])
def test_an_invalid_digest_is_an_error(digest: Any) -> None:
    with pytest.raises(UserError, match=r"stages\.pretrain\.published\.sha256 = .*must be the 64 hexadecimal digits"):
        study_with_weights("x", sha256=digest)


def test_weights_that_do_not_fit_are_one_error_before_anything_starts(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(network_of("vit_micro"), small_weights)
    arguments = ["scaled_relu_table6", "--scale", "digits", "--seeds", "0", "--out", str(tmp_path / "study")]
    assert main(["run", *arguments, f"pretrain.published={small_weights}"]) == 2
    error = capsys.readouterr().err
    assert error.count("error:") == 1 and "do not fit the runs that start from them, and nothing was started" in error
    assert "6 runs of finetune with model.name=vit_mini at 12 px" in error and "of another shape" in error
    assert "pretrain.published=none" in error and not (tmp_path / "study").exists()


def test_weights_of_an_override_are_one_error_before_anything_starts(
    small_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that no entry `published` names: absent, damaged, and of another network."""
    save_file(network_of("vit_micro"), small_weights)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(small_weights.read_bytes()[:-100])
    for init, message in (
        (tmp_path / "absent.safetensors", "cannot be loaded, and nothing was started"),
        (damaged, "is not a complete safetensors file"),
        (small_weights, "do not fit the runs that start from them, and nothing was started"),
    ):
        out = tmp_path / "study"
        assert main(["run", "scaled_relu_table3", "--scale", "digits", f"finetune.init={init}", "--out", str(out)]) == 2
        error = capsys.readouterr().err
        assert error.count("error:") == 1 and f"finetune: init = {init}" in error and message in error
        assert not out.exists()


def test_weights_of_the_hub_come_with_the_files_that_describe_them(
    small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compute nodes often have no connection: normalization and network are stated in files beside the weights."""
    fetched, described = [], []
    monkeypatch.setattr(weight_files, "read_weights", lambda init: fetched.append(init))
    monkeypatch.setattr(hub, "fetch_descriptions", lambda name, init: described.append(name))
    monkeypatch.setattr(weights, "load_init", lambda network, init: None)
    study, runs = study_with_weights("hf-hub:some/network")
    other = [replace(run, overrides=(*run.overrides, "init=hf-hub:some/other")) for run in runs]
    fetch_starts(study, [*runs, *other])
    assert fetched == ["hf-hub:some/network", "hf-hub:some/other"] and described == ["some/network", "some/other"]


def test_weights_may_have_a_classifier_with_any_number_of_classes(small_weights: Path) -> None:
    more = {"head.weight": torch.zeros(7, 64), "head.bias": torch.zeros(7)}
    for content in (network_of("vit_mini"), network_of("vit_mini") | more):
        save_file(content, small_weights)
        for name in STUDIES_WITH_WEIGHTS:
            plan = planned(name, "digits", f"pretrain.published={small_weights}")
            assert set(fetch_published(plan.study, plan.runs)) == {"pretrain"}
