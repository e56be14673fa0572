"""Every model family in the stages: training, resume, pre-training, export, initialization."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import RECIPES, TINY, read_losses, read_result
from safetensors.torch import load_file

from common.config import load
from common.models.export import export_network
from common.training.progress import Progress
from common.training.run import INTERRUPTED
from finetune.build import build_classifier
from finetune.config import FinetuneConfig

Stage = Callable[..., int]

FAMILIES = {
    "volo": ("model.name=volo_mini", "model.patch_size=2", "model.ffn=conv1d_bn"),
    "regnety": ("model.name=regnety_mini", "model.patch_size=none", "model.stem=none"),
}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_model_family_trains_exports_and_reloads(stage: Stage, tmp_path: Path, family: str) -> None:
    assert stage("finetune", tmp_path / "run", *FAMILIES[family]) == 0
    result = read_result(tmp_path / "run")
    assert result["status"] == "finished" and len(read_losses(tmp_path / "run")) == 8
    network = timm.create_model(f"local-dir:{tmp_path / 'run' / 'export'}", pretrained=True).eval()
    assert network(torch.randn(2, 3, 12, 12)).shape == (2, 10)
    again = ("train.epochs=1", f"init={tmp_path / 'run'}")
    assert stage("finetune", tmp_path / "again", *FAMILIES[family], *again) == 0


@pytest.mark.parametrize("family", list(FAMILIES))
def test_model_family_resumes_bit_exactly(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    advance = Progress.advance

    def advance_and_signal(self: Progress, step: int) -> None:
        advance(self, step)
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    model = (*FAMILIES[family], "model.drop_path=0.2", "train.epochs=1")
    assert stage("finetune", tmp_path / "uninterrupted", *model) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", advance_and_signal)
        assert stage("finetune", tmp_path / "resumed", *model) == INTERRUPTED
    assert stage("finetune", tmp_path / "resumed", *model) == 0
    uninterrupted, resumed = (
        load_file(tmp_path / name / "export" / "model.safetensors") for name in ("uninterrupted", "resumed")
    )
    assert [name for name in uninterrupted if not torch.equal(uninterrupted[name], resumed[name])] == []


def test_convolutional_network_is_pretrained_and_finetuned(stage: Stage, tmp_path: Path) -> None:
    model = FAMILIES["regnety"]
    assert stage("pretrain", tmp_path / "dino", *model) == 0
    assert read_result(tmp_path / "dino")["status"] == "finished"
    assert stage("finetune", tmp_path / "tst", *model, "train.epochs=1", f"init={tmp_path / 'dino'}") == 0


def test_head_init_scale_applies_to_all_classifiers(tmp_path: Path) -> None:
    def build(scale: float) -> torch.nn.Module:
        overrides = [*TINY["finetune"], *FAMILIES["volo"], f"head_init_scale={scale}", f"out={tmp_path}"]
        torch.manual_seed(0)
        return build_classifier(load(FinetuneConfig, RECIPES / "digits" / "finetune.yaml", overrides), num_classes=4)

    full, tenth = build(1.0).state_dict(), build(0.1).state_dict()
    scaled = {name for name in full if not torch.equal(full[name], tenth[name])}
    assert scaled == {"head.weight", "aux_head.weight"}
    assert all(torch.allclose(full[name] * 0.1, tenth[name]) for name in scaled)


def test_a_trained_classifier_is_not_scaled(tmp_path: Path) -> None:
    """Training further, as a refused extension advises, multiplied the classifier of the weights by head_init_scale."""
    recipe = RECIPES / "digits" / "finetune.yaml"

    def head(*overrides: str, names: tuple[str, ...] = ("0", "1")) -> Any:
        config = load(
            FinetuneConfig, recipe, [*TINY["finetune"], f"out={tmp_path}", "head_init_scale=0.001", *overrides]
        )
        torch.manual_seed(0)
        return build_classifier(config, num_classes=2, class_names=names), config

    network, config = head()
    with torch.no_grad():
        network.head.weight.fill_(3.0)
    mean, std = config.data.statistics()
    options = {"mean": mean, "std": std, "image_size": config.data.image_size, "metrics": {}}
    export_network(network, tmp_path / "export", model_name=config.model.name, class_names=["0", "1"], **options)
    loaded, _ = head(f"init={tmp_path}")
    assert torch.equal(loaded.head.weight, network.head.weight)
    fresh, _ = head(f"init={tmp_path}", names=("a", "b"))
    assert fresh.head.weight.abs().max() < 0.001
