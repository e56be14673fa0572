"""Number of heads where no tensor tells it: of published networks by their width, MoCo v3's by its file, otherwise asked for."""

import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.layers import build_sincos2d_pos_embed

from common.errors import UserError
from common.evaluation.config import KnnEvaluationConfig
from common.models.init_network import follow_init, network_of_init
from common.models.meta import on_meta_device
from common.models.network_of_weights import network_of_weights
from common.models.network_settings import NetworkSettings
from common.models.networks import ModelConfig, build_network
from common.models.several_networks import ChosenNetwork
from common.models.weight_files import Weights
from common.models.weights import load_init

PUBLISHED = [
    "vit_tiny_patch16_224",
    "vit_huge_patch14_224",
    "deit3_huge_patch14_224",
    "vit_huge_patch14_clip_224",
    "vit_giant_patch14_clip_224",
    "vit_gigantic_patch14_clip_224",
    "vit_giant_patch14_dinov2",
    "vit_huge_plus_patch16_dinov3",
    "vit_7b_patch16_dinov3",
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_have_their_heads(name: str) -> None:
    with on_meta_device():
        network: Any = timm.create_model(name, num_classes=0, depth=1)
    weights = Weights(source="w.pth", network=ChosenNetwork(tensors=network.state_dict()), geometry=None)
    told = network_of_weights(weights, NetworkSettings(activation="gelu" if "clip" in name else None), "w.pth")
    assert told.assumed_heads == network.blocks[0].attn.num_heads


def _recipe(init: Path, *kwargs: str) -> KnnEvaluationConfig:
    model = ModelConfig(name="init", kwargs=kwargs)
    return KnnEvaluationConfig(out="out", init=str(init), model=model, data={"image_size": 32})


def test_number_of_heads_is_logged_where_it_is_assumed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    network = timm.create_model("vit_base_patch16_224", embed_dim=192, depth=1, num_heads=3, num_classes=0)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    caplog.set_level(logging.INFO)
    follow_init(_recipe(tmp_path / "w.pth"))
    assert "init: heads: 3 (assumed" in caplog.text
    assert "num_heads=6" in follow_init(_recipe(tmp_path / "w.pth", "num_heads=6")).model.kwargs
    with pytest.raises(UserError, match=r"model\.kwargs = .*all but the number of heads"):
        follow_init(_recipe(tmp_path / "w.pth", "mlp_ratio=2"))


def _moco(*, sines: bool) -> dict[str, torch.Tensor]:
    """Return the weights of a ViT-S with MoCo v3's position embedding, fixed or drawn."""
    options = {"img_size": 32, "patch_size": 8, "depth": 1, "num_heads": 12, "num_classes": 0}
    weights = timm.create_model("vit_small_patch16_224", **options).state_dict()
    if sines:
        coordinates, scales = torch.arange(4.0), 10000.0 ** -(torch.arange(96) / 96)
        rows, columns = (
            each.flatten()[:, None] * scales for each in torch.meshgrid(coordinates, coordinates, indexing="ij")
        )
        patches = torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], dim=1)
        weights["pos_embed"] = torch.cat([torch.zeros(1, 1, 384), patches[None]], dim=1)
    return weights


def test_names_of_moco_v3_tell_no_heads(tmp_path: Path) -> None:
    """Other programs use them for networks of 6 heads with learned positions."""
    content = {f"module.base_encoder.{name}": tensor for name, tensor in _moco(sines=False).items()}
    torch.save({"arch": "vit_small", "state_dict": content}, tmp_path / "w.pth.tar")
    network = network_of_init(str(tmp_path / "w.pth.tar"))
    assert network.assumed_heads == 6


@pytest.mark.parametrize("kind", ["pre-training", "backbone"])
def test_heads_of_moco_v3_are_told_by_its_file(kind: str, tmp_path: Path) -> None:
    weights = _moco(sines=True)
    content = weights
    if kind == "pre-training":
        heads = {"head.0.weight": torch.zeros(2, 2), "head.1.running_mean": torch.zeros(2)}
        encoder = {f"module.base_encoder.{name}": tensor for name, tensor in (weights | heads).items()}
        momentum = {name.replace("base", "momentum"): torch.zeros_like(tensor) for name, tensor in encoder.items()}
        content = encoder | momentum
    torch.save({"arch": "vit_small", "state_dict": content}, tmp_path / "w.pth.tar")
    config = network_of_init(str(tmp_path / "w.pth.tar")).config()
    network: Any = build_network(config, image_size=32, num_classes=0)
    load_init(network, str(tmp_path / "w.pth.tar"))
    assert network.blocks[0].attn.num_heads == 12
    six = build_network(
        ModelConfig(name="vit_small_patch16_224", patch_size=8, kwargs=("depth=1",)), image_size=32, num_classes=0
    )
    with pytest.raises(UserError, match=r"has 12 attention heads instead of 6 \(model\.kwargs=\[num_heads=12\]\)"):
        load_init(six, str(tmp_path / "w.pth.tar"))


def test_sines_of_another_order_are_not_of_moco_v3(tmp_path: Path) -> None:
    weights = _moco(sines=False)
    patches = build_sincos2d_pos_embed([4, 4], 384, interleave_sin_cos=False)
    weights["pos_embed"] = torch.cat([torch.zeros(1, 1, 384), patches[None]], dim=1)
    torch.save(weights, tmp_path / "w.pth")
    assert network_of_init(str(tmp_path / "w.pth")).assumed_heads == 6
