"""DINOv3's own files: what they tell beside tensors, and what no network here has."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from common.errors import UserError
from common.models.init_network import network_of_init
from common.models.networks import ModelConfig, build_network
from common.models.weight_files import read_weights
from common.models.weights import load_init

SIZES = {"embed_dim": 64, "depth": 1, "num_heads": 4, "mlp_ratio": 1.5}


def _file(path: Path, *, base: float = 100.0, bias: Tensor | None = None, mask: Tensor | None = None) -> str:
    """Write a tiny network as the program names it."""
    options: dict[str, Any] = {"img_size": 32, "patch_size": 8, "num_classes": 0}
    state = timm.create_model("vit_base_patch16_dinov3", **SIZES, **options).state_dict()
    for ours, theirs in (("reg_token", "storage_tokens"), ("gamma_", "ls.gamma_")):
        state = {name.replace(ours, theirs): tensor for name, tensor in state.items()}
    state = {name.replace("ls.gamma_1", "ls1.gamma").replace("ls.gamma_2", "ls2.gamma"): t for name, t in state.items()}
    state["rope_embed.periods"] = base ** (torch.arange(4) / 4)
    if bias is not None:
        state["blocks.0.attn.qkv.bias"] = bias
    if mask is not None:
        state["blocks.0.attn.qkv.bias_mask"] = mask
    torch.save(state, path)
    return str(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_base_of_the_periods_is_that_of_the_network(dtype: torch.dtype, tmp_path: Path) -> None:
    init = _file(tmp_path / "w.pth", base=50.0)
    state = torch.load(init, weights_only=True)
    torch.save(state | {"rope_embed.periods": state["rope_embed.periods"].to(dtype)}, init)
    told = network_of_init(init)
    assert "rope_temperature=50.0" in told.kwargs and "num_heads=4" in told.kwargs
    network: Any = build_network(told.config(), image_size=32, num_classes=0)
    load_init(network, init)
    assert network.rope.temperature == 50.0
    kwargs = tuple(f"{name}={value}" for name, value in SIZES.items())
    other = build_network(
        ModelConfig(name="vit_base_patch16_dinov3", patch_size=8, kwargs=kwargs), image_size=32, num_classes=0
    )
    with pytest.raises(UserError, match="rotary embeddings of base 50 instead of 100"):
        load_init(other, init)


def test_periods_that_are_no_powers_are_refused(tmp_path: Path) -> None:
    state = torch.load(_file(tmp_path / "w.pth"), weights_only=True)
    torch.save(state | {"rope_embed.periods": torch.tensor([0.5, 1.0, 2.0, 9.0])}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"init: .*w\.pth has rotary embeddings of periods from 0\.5 to 9.*no"):
        read_weights(str(tmp_path / "w.pth"))


def test_bias_of_the_keys_is_refused_unless_masked(tmp_path: Path) -> None:
    init = _file(tmp_path / "w.pth", bias=torch.ones(192))
    with pytest.raises(
        UserError, match=r"init: .*w\.pth has a bias of the keys in blocks\.0\.attn\.qkv\.bias that is not 0"
    ):
        read_weights(init)
    mask = torch.cat([torch.ones(64), torch.zeros(64), torch.ones(64)])
    _file(tmp_path / "w.pth", bias=torch.ones(192), mask=mask)
    assert not any(each.startswith("norm_eps") for each in network_of_init(init).kwargs)


def test_norms_of_networks_without_a_mask_have_their_own_epsilon(tmp_path: Path) -> None:
    init = _file(tmp_path / "w.pth", bias=torch.cat([torch.ones(64), torch.zeros(64), torch.ones(64)]))
    assert "norm_eps=1e-06" in network_of_init(init).kwargs


@pytest.mark.parametrize("family", ["DINOv2", "DINOv3", "CLIP"])
def test_incomplete_file_is_named_with_the_tensor_that_it_lacks(family: str, tmp_path: Path) -> None:
    tensors = {
        "DINOv2": {"register_tokens": torch.zeros(1, 4, 8), "cls_token": torch.zeros(1, 1, 8)},
        "DINOv3": {"rope_embed.periods": torch.ones(4)},
        "CLIP": {"class_embedding": torch.zeros(8)},
    }[family]
    torch.save(tensors | {"patch_embed.proj.weight": torch.zeros(8, 3, 2, 2)}, tmp_path / "w.pth")
    lacking = "cls_token" if family == "DINOv3" else "pos_embed|positional_embedding"
    with pytest.raises(UserError, match=rf"init: .*w\.pth lacks the tensor ({lacking}): it is incomplete"):
        read_weights(str(tmp_path / "w.pth"))
