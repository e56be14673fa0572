"""The linear evaluation as a stage: against a plain loop over fixed features, resumed, interrupted, diverged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import assert_same_run, last_weights, read_losses, read_result
from PIL import Image
from torch.nn.functional import cross_entropy

from common.config import build, load
from common.data.augment.supervised import EvaluationTransform
from common.data.loading.loader import normalize
from common.data.loading.sampler import EpochSampler
from common.data.open_splits import open_splits
from common.errors import UserError
from common.evaluation.config import LinearConfig
from common.evaluation.frozen import build_frozen
from common.training.progress import Progress
from common.training.run import INTERRUPTED

Stage = Callable[..., int]

FIXED = ("augment.degrees=0.0", "augment.translate=0.0")
"""Turns off what is left of the augmentation, so that an image has the same features in every epoch."""


def test_training_matches_a_plain_loop_over_fixed_features(stage: Stage, tmp_path: Path) -> None:
    """SGD with momentum 0.9 by hand, on the class tokens of the last two blocks, at a rate that follows half a cosine."""
    assert stage("linear", tmp_path / "run", "blocks=2", *FIXED) == 0
    config = load(LinearConfig, tmp_path / "run" / "config.yaml")
    split, data = open_splits(config.data, labeled=True).train, config.data
    network = build_frozen(config.model, None, image_size=data.image_size, seed=0)
    block = EvaluationTransform(data.image_size, 1.0)([split.image(index) for index in range(len(split))], []).blocks[
        0
    ][0]
    with torch.no_grad():
        tokens = network.patch_embed(normalize(block, data.mean, data.std))
        tokens = torch.cat([network.cls_token.expand(len(tokens), -1, -1), tokens], 1) + network.pos_embed
        found = []
        for layer in network.blocks:
            tokens = layer(tokens)
            found.append(network.norm(tokens)[:, 0])
        features = torch.cat(found[-2:], 1)
    weight = torch.empty(10, 128).normal_(std=0.01, generator=torch.Generator().manual_seed(0)).requires_grad_()
    bias = torch.zeros(10, requires_grad=True)
    momenta, losses = [torch.zeros_like(weight), torch.zeros_like(bias)], []
    labels, sampler = torch.as_tensor(split.labels), EpochSampler(80, 20, 0)
    for step in range(8):
        indices = sampler.order(step // 4)[step % 4 * 20 :][:20].copy()
        loss = cross_entropy(features[indices] @ weight.T + bias, labels[indices])
        gradients = torch.autograd.grad(loss, [weight, bias])
        rate = 0.1 * 0.5 * (1 + np.cos(np.pi * step / 8))
        with torch.no_grad():
            for parameter, momentum, gradient in zip((weight, bias), momenta, gradients, strict=True):
                momentum.mul_(0.9).add_(gradient)
                parameter -= rate * momentum
        losses.append(float(loss.detach()))
    assert read_losses(tmp_path / "run") == pytest.approx(losses, rel=1e-4)
    kept = last_weights(tmp_path / "run")
    assert torch.allclose(kept["classifier.weight"], weight, atol=1e-5)
    assert torch.allclose(kept["classifier.bias"], bias, atol=1e-5)


def test_a_linear_run_folder_tells_the_last_epoch_and_names_the_best(stage: Stage, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert stage("linear", out) == 0
    for file in ("config.yaml", "overrides.txt", "environment.json", "subset.json", "metrics.jsonl"):
        assert (out / file).stat().st_size > 0, file
    result = read_result(out)
    assert result["status"] == "finished" and result["stage"] == "linear"
    assert (result["step"], result["images"], result["train_images"]) == (8, 160, 80)
    metrics = result["metrics"]
    assert {"test_top1", "validation_top1", "best_validation_top1", "best_validation_epoch"} <= metrics.keys()
    assert metrics["best_validation_top1"] >= metrics["validation_top1"]
    assert len(result["per_class"]) == 10


def test_the_network_is_frozen_and_comes_from_init(stage: Stage, tmp_path: Path) -> None:
    assert stage("pretrain", tmp_path / "dino", "train.epochs=1") == 0
    before = (tmp_path / "dino" / "export" / "model.safetensors").read_bytes()
    assert stage("linear", tmp_path / "trained", f"init={tmp_path / 'dino'}") == 0
    assert stage("linear", tmp_path / "untrained") == 0
    assert read_losses(tmp_path / "trained") != read_losses(tmp_path / "untrained")
    assert (tmp_path / "dino" / "export" / "model.safetensors").read_bytes() == before
    kept = last_weights(tmp_path / "trained")
    assert {name.partition(".")[0] for name in kept} == {"classifier", "optimizer"}


@pytest.mark.parametrize("killed_at", [3, 4])
def test_a_killed_run_ends_as_the_uninterrupted_one(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    overrides = ("augment.random_erasing_prob=0.5", "augment.mixup=0.8", "augment.auto_augment=rand-m9-mstd0.5-inc1")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert stage("linear", whole, *overrides) == 0
    advance = Progress.advance

    def advance_or_kill(self: Progress, step: int) -> None:
        advance(self, step)
        if step == killed_at:
            raise SystemError("simulated kill")

    with monkeypatch.context() as patch, pytest.raises(SystemError):
        patch.setattr(Progress, "advance", advance_or_kill)
        stage("linear", parts, *overrides, "train.checkpoint_minutes=1e-9")
    assert not (parts / "result.json").exists()
    assert stage("linear", parts, *overrides) == 0
    assert_same_run(whole, parts)


def test_a_signal_saves_and_the_same_command_resumes(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert stage("linear", whole) == 0
    advance = Progress.advance

    def advance_and_signal(self: Progress, step: int) -> None:
        advance(self, step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", advance_and_signal)
        assert stage("linear", parts) == INTERRUPTED
    assert read_result(parts)["status"] == "interrupted" and read_result(parts)["step"] == 3
    assert stage("linear", parts) == 0
    assert_same_run(whole, parts)


def test_a_diverging_run_ends_with_its_step(stage: Stage, tmp_path: Path) -> None:
    assert stage("linear", tmp_path / "run", "optim.lr=1e38") == 0
    result = read_result(tmp_path / "run")
    assert result["status"] == "diverged" and "at step" in result["reason"] and result["step"] < 8


def test_linear_evaluation_tells_a_pretrained_network_from_an_untrained_one(stage: Stage, tmp_path: Path) -> None:
    """A few epochs of labels give the network features; a linear classifier then reads more from them."""
    overrides = ("data.images_per_class=10", "train.epochs=12")
    assert stage("finetune", tmp_path / "trained", *overrides, "optim.lr=2e-3") == 0
    found = {}
    for name, init in (("trained", str(tmp_path / "trained")), ("untrained", "none")):
        assert stage("linear", tmp_path / f"of_{name}", f"init={init}", *overrides) == 0
        found[name] = read_result(tmp_path / f"of_{name}")["metrics"]["validation_top1"]
    assert found["trained"] > found["untrained"] + 5


def test_a_recipe_that_gives_up_the_aspect_is_judged_by_whole_images(stage: Stage, tmp_path: Path) -> None:
    generator, found = np.random.default_rng(0), []
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(20):
            pixels = generator.integers(0, 255, (8, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    for crop_mode in ("center", "squash"):
        out = tmp_path / crop_mode
        assert stage("linear", out, f"data.source={tmp_path / 'images'}", f"augment.crop_mode={crop_mode}") == 0
        found.append(read_result(out)["metrics"])
    assert found[0]["train_loss"] == found[1]["train_loss"]
    assert found[0]["validation_ece"] != found[1]["validation_ece"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["optim.name=sam"], ["optim.name", "sam"]),
        (["optim.layer_decay=0.75"], ["optim.layer_decay", "0.75"]),
        (["optim.decay_embeddings=false"], ["optim.decay_embeddings"]),
        (["train.kernels=true", "train.precision=bf16"], ["train.kernels: true", "only a linear layer is trained"]),
        (["train.compile=true"], ["train.compile: true", "only a linear layer is trained"]),
        (["train.grad_checkpointing=true"], ["train.grad_checkpointing: true", "only a linear layer is trained"]),
        (["train.micro_batch_size=4"], ["train.micro_batch_size", "any batch fits"]),
        (["train.on_divergence=rewind"], ["train.on_divergence"]),
        (["model.drop_path=0.3"], ["model.drop_path: 0.3", "nothing is trained"]),
        (["optim.clip_per_parameter=true"], ["optim.clip_per_parameter", "clip_grad is none"]),
        (["blocks=0"], ["blocks", "at least 1"]),
        (["blocks=9"], ["blocks = 9", "4"]),
        (["init=no/such/run"], ["init", "no/such/run"]),
        (["block=2"], ["block: unknown key. Did you mean blocks?"]),
    ],
)
def test_a_wrong_key_or_value_is_reported(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], words: list[str]
) -> None:
    assert stage("linear", tmp_path / "run", *overrides) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and all(word in error for word in words)


def test_init_must_be_given_even_if_it_is_none() -> None:
    with pytest.raises(UserError, match="init: missing"):
        build(LinearConfig, {"out": "runs/x"}, source="recipe.yaml")
    assert build(LinearConfig, {"out": "runs/x", "init": "none"}, source="recipe.yaml").init is None
