"""Both stages and the evaluations start from DINOv2's and DINOv3's weights: resolved recipe, features, export, resumption."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from conftest import read_result

from common.config import build
from common.models.networks import ModelConfig, build_network
from common.models.weights import load_init

SIZE = ("data.image_size=16", "model.name=init", "model.stem=none")
ADAPTED = {
    "DINOv2": ("freeze.embeddings=true", "freeze.blocks=1"),
    "DINOv3": ("freeze.blocks=1", "lora.rank=2", "lora.targets=[qkv,fc1]"),
}
NETWORKS = {"DINOv2": "vit_small_patch14_reg4_dinov2", "DINOv3": "vit_small_patch16_dinov3"}


def _weights(path: Path, family: str) -> Path:
    """Write a release of the family's program: a tiny network of random weights, in patches of 4 px."""
    torch.manual_seed(0)
    sizes = {"embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": 16, "patch_size": 4}
    weights = timm.create_model(NETWORKS[family], num_classes=0, **sizes).state_dict()
    registers = weights.pop("reg_token")
    if family == "DINOv2":
        position = torch.zeros(1, 1, 64)
        weights["register_tokens"], weights["pos_embed"] = registers, torch.cat([position, weights["pos_embed"]], dim=1)
    else:
        weights = {
            name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma"): t for name, t in weights.items()
        }
        weights |= {"storage_tokens": registers, "rope_embed.periods": 100.0 ** (torch.arange(16) / 16)}
    torch.save(weights | {"mask_token": torch.zeros(1, 64)}, path)
    return path


def _network(run: Path, init: Path, *, num_classes: int) -> Any:
    """Build the network of a run's recipe with these weights."""
    section = yaml.safe_load((run / "config.yaml").read_text())["model"]
    network = build_network(build(ModelConfig, section, source="the run"), image_size=16, num_classes=num_classes)
    load_init(network, str(init))
    return network.eval()


@pytest.mark.parametrize("family", NETWORKS)
def test_stages_continue_from_public_weights(stage: Callable[..., int], tmp_path: Path, family: str) -> None:
    init = _weights(tmp_path / "weights.pth", family)
    crops = ("crops.global_size=16", "crops.local_size=8")
    assert stage("pretrain", tmp_path / "dino", f"init={init}", *SIZE, *crops, *ADAPTED[family]) == 0
    exported = timm.create_model(f"local-dir:{tmp_path / 'dino' / 'export'}", pretrained=True).state_dict()
    given = _network(tmp_path / "dino", init, num_classes=0).state_dict()
    changed = {name for name in given if not torch.equal(given[name], exported[name])}
    assert changed and all(name.startswith(("blocks.1.", "norm.")) for name in changed)
    recipe = yaml.safe_load((tmp_path / "dino" / "config.yaml").read_text())
    assert "dinov" in recipe["model"]["name"] and recipe["model"]["patch_size"] == 4
    assert stage("finetune", tmp_path / "tst", f"init={tmp_path / 'dino'}", *SIZE, "train.epochs=1") == 0
    assert stage("linear", tmp_path / "linear", f"init={tmp_path / 'tst'}", *SIZE, "blocks=2", "train.epochs=1") == 0
    assert stage("knn", tmp_path / "knn", f"init={tmp_path / 'dino'}", *SIZE) == 0
    assert read_result(tmp_path / "knn")["status"] == "finished"
    alone = timm.create_model(f"local-dir:{tmp_path / 'tst' / 'export'}", pretrained=True).eval()
    network = _network(tmp_path / "tst", tmp_path / "tst", num_classes=10)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(alone(images), network(images))
    assert (
        stage("finetune", tmp_path / "tst", f"init={tmp_path / 'dino'}", *SIZE, "train.epochs=1") == 0
    )  # nothing to do


def test_weights_of_colors_are_adapted_to_gray_images_by_lora(
    stage: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init = _weights(tmp_path / "weights.pth", "DINOv3")
    gray = ("data.channels=1", "data.mean=measured", "data.std=measured")
    assert stage("finetune", tmp_path / "tst", f"init={init}", *SIZE, *gray, "lora.rank=2", "train.epochs=1") == 0
    assert "3 input channels summed for the 1 of this network" in capsys.readouterr().out
    alone = timm.create_model(f"local-dir:{tmp_path / 'tst' / 'export'}", pretrained=True).eval()
    stem = torch.load(init, weights_only=True)["patch_embed.proj.weight"].sum(1, keepdim=True)
    assert torch.equal(alone.patch_embed.proj.weight, stem) and alone(torch.zeros(1, 1, 16, 16)).shape == (1, 10)
    assert len(read_result(tmp_path / "tst")["normalization"]["mean"]) == 1
