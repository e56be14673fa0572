"""Whole runs for re-identification: what they tell, resuming bit by bit, two processes, the export, mistakes, learning."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from conftest import RECIPES, Killed, assert_same_run, read_losses, read_result
from safetensors.torch import load_file
from test_processes import launch_two

from common.config import load
from common.training.progress import Progress
from finetune.config import FinetuneConfig
from finetune.reid.objective import Identifier

Stage = Callable[..., int]
RECIPE = RECIPES / "reid" / "digits.yaml"
# 16 identities x 2 images, 5 steps an epoch.
TINY = (
    "data.images_per_class=3", "train.batch_size=32", "identification.images_per_identity=2", "model.drop_path=0.1",
    "augment.erasing=0.5", "augment.flip=0.5", "augment.padding=2", "train.evaluate_every=1", "optim.lr=0.01",
)  # fmt: skip


@pytest.fixture
def reid(stage: Stage) -> Stage:
    """Run a tiny re-identification: reid(out, "key=value", ...) -> exit code."""

    def run(out: Path, *overrides: str) -> int:
        return stage("finetune", out, *TINY, *overrides, recipe=RECIPE)

    return run


def test_a_run_tells_map_and_cmc(reid: Stage, tmp_path: Path) -> None:
    assert reid(tmp_path / "run", "data.validation_fraction=0.1", "train.epochs=1") == 0
    result = read_result(tmp_path / "run")
    wanted = {"map", "rank1", "rank5", "rank10"}
    assert {f"{part}_{name}" for part in ("test", "validation") for name in wanted} <= result["metrics"].keys()
    assert {"best_validation_map", "best_validation_epoch"} <= result["metrics"].keys()
    assert len(result["cmc"]) == 50 and result["cmc"] == sorted(result["cmc"]) and result["queries"] == 89
    assert result["cmc"][4] == result["metrics"]["test_rank5"]


def test_a_killed_run_ends_as_the_uninterrupted_one(
    reid: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = ("data.workers=2", "optim.name=sam", "optim.base=sgd", "ema_decay=0.9")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert reid(whole, *extra) == 0
    advance = Progress.advance

    def advance_or_die(self: Progress, step: int) -> None:
        advance(self, step)
        if step == 7:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progress, "advance", advance_or_die)
        reid(parts, *extra, "train.checkpoint_minutes=1e-9")
    assert reid(parts, *extra) == 0
    assert_same_run(whole, parts)


def test_two_processes_give_the_losses_of_one(reid: Stage, tmp_path: Path) -> None:
    overrides = ("model.drop_path=0.0", "optim.name=sgd")
    assert reid(tmp_path / "one", *overrides) == 0
    launch_two("finetune", tmp_path / "two", *TINY, *overrides, recipe=RECIPE)
    one, two = read_losses(tmp_path / "one"), read_losses(tmp_path / "two")
    assert len(one) == 10 and two == pytest.approx(one, rel=1e-4)
    mine, theirs = (read_result(tmp_path / name)["metrics"]["test_map"] for name in ("one", "two"))
    assert theirs == pytest.approx(mine, abs=0.2)


def test_the_export_is_the_network_without_the_neck(reid: Stage, tmp_path: Path) -> None:
    assert reid(tmp_path / "run", "train.epochs=1", "model.stem=patchify") == 0
    network = timm.create_model(f"local-dir:{tmp_path / 'run' / 'export'}", pretrained=True).eval()
    kept = load_file(sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1] / "state.safetensors")
    assert all(torch.equal(t, kept[f"network.backbone.{name}"]) for name, t in network.state_dict().items())
    assert network(torch.zeros(1, 3, 24, 12)).shape == (1, 64)
    described = json.loads((tmp_path / "run" / "export" / "config.json").read_text())
    assert described["pretrained_cfg"]["input_size"] == [3, 24, 12]


def test_it_starts_from_a_square_pretraining_with_the_position_embedding_resized(
    reid: Stage, stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage("pretrain", tmp_path / "dino", "train.epochs=1", "model.stem=conv") == 0
    assert reid(tmp_path / "run", f"init={tmp_path / 'dino'}", "optim.lr=1e-12", "train.epochs=1") == 0
    assert "position embedding resized from 3x3 patches to (24, 12) px" in capsys.readouterr().out
    before = load_file(tmp_path / "dino" / "export" / "model.safetensors")
    after = load_file(tmp_path / "run" / "export" / "model.safetensors")
    assert torch.allclose(before["blocks.0.attn.qkv.weight"], after["blocks.0.attn.qkv.weight"], atol=1e-6)
    assert before["pos_embed"].shape[1] == 10 and after["pos_embed"].shape[1] == 19


def test_the_neck_normalises_and_its_bias_stays_zero(reid: Stage, tmp_path: Path) -> None:
    assert reid(tmp_path / "run", "train.epochs=1") == 0
    kept = load_file(sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1] / "state.safetensors")
    assert not kept["network.neck.bias"].any() and kept["network.neck.running_mean"].any()
    assert kept["network.classifier.weight"].shape == (90, 64) and "network.classifier.bias" not in kept


def test_layer_decay_counts_the_network_and_then_neck_and_classifier() -> None:
    from common.models.networks import ModelConfig, build_network
    from common.training.optimizers import parameter_groups

    backbone = build_network(ModelConfig(name="vit_mini", stem="conv"), image_size=(24, 12), num_classes=0)
    model = Identifier(backbone, 5, classifier_std=0.001)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales = {
        names[id(parameter)]: (group["lr_scale"], group["decayed"])
        for group in parameter_groups(model, layer_decay=0.5, decay_embeddings=False)
        for parameter in group["params"]  # type: ignore[attr-defined]
    }
    assert scales["backbone.pos_embed"] == (0.5**5, False) and scales["classifier.weight"] == (1.0, True)
    assert scales["backbone.blocks.3.mlp.fc1.weight"][0] > scales["backbone.blocks.0.mlp.fc1.weight"][0] == 0.5**4
    assert "neck.bias" not in scales and scales["neck.weight"] == (1.0, False)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("data.source=digits",), ["objective: identification", "data.source 'digits'"]),
        (("objective=classification",), ["objective: classification", "objective=identification"]),
        (("objective=classification", "identification.margin=0.3"), ["identification", "objective: classification"]),
        (("objective=recognition",), ["objective", "recognition", "identification"]),
        (("train.batch_size=17",), ["train.batch_size", "17", "identification.images_per_identity"]),
        (("train.batch_size=256",), ["train.batch_size", "256", "90"]),
        (("augment.mixup=0.8", "augment.repeats=3"), ["augment.mixup", "augment.repeats"]),
        (("identification.images_per_identity=0",), ["identification.images_per_identity", "0"]),
        (("data.image_size=[24,13]",), ["data.image_size", "13", "4"]),
        (("data.image_size=[24,12,3]",), ["data.image_size", "2 values"]),
        (("data.image_size=[24,0]",), ["data.image_size", "at least 1"]),
        (("optim.min_lr=2",), ["optim.min_lr", "share of the peak"]),
    ],
)
def test_a_wrong_key_or_value_is_told(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], words: list[str]
) -> None:
    tiny = [word for word in TINY if not overrides[0].startswith("objective=c") or "identification" not in word]
    assert stage("finetune", tmp_path / "run", *tiny, *overrides, recipe=RECIPE) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    for word in words:
        assert word in error


def test_a_dry_run_counts_the_steps_of_identity_batches(
    reid: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reid(tmp_path / "run", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "270 to train on, 89 for test queries" in told and "steps         10 of 32 images" in told


@pytest.mark.parametrize(("name", "erasing"), [("market1501", 0.5), ("msmt17", 0.8)])
def test_the_papers_recipes_hold_its_numbers(name: str, erasing: float) -> None:
    config = load(FinetuneConfig, RECIPES / "reid" / f"{name}.yaml")
    assert config.data.image_size == (256, 128) and config.data.layout == name
    assert (config.train.batch_size, config.identification.images_per_identity, config.train.epochs) == (64, 4, 120)
    assert config.identification.margin is None and config.augment.smoothing == 0
    assert config.augment.erasing == erasing
    assert (config.optim.name, config.optim.weight_decay, config.optim.warmup_lr) == ("sgd", 1e-4, 0.01)


def test_it_learns_to_know_identities_again(stage: Stage, tmp_path: Path) -> None:
    """A part of the recipe's length: a mean average precision of a random ranking is 2.8, of the pixels 5.5."""
    overrides = ("data.images_per_class=none", "train.epochs=3", "train.batch_size=64")
    assert stage("finetune", tmp_path / "run", *overrides, recipe=RECIPE) == 0
    assert read_result(tmp_path / "run")["metrics"]["test_map"] > 9
