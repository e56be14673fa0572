"""What configs state of a network that no tensor tells is compared with the network that loads the weights."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from common.errors import UserError
from common.models.init_network import network_of_init
from common.models.networks import ModelConfig, build_network
from common.models.weights import load_init

SIZES = {"embed_dim": 64, "depth": 1, "mlp_ratio": 1.5}
OPTIONS = {**SIZES, "img_size": 32, "patch_size": 8, "num_classes": 0}
KWARGS = tuple(f"{name}={value}" for name, value in SIZES.items())


def _load(init: Path, name: str, *kwargs: str) -> None:
    config = ModelConfig(name=name, patch_size=8, kwargs=(*KWARGS, *kwargs))
    load_init(build_network(config, image_size=32, num_classes=0), str(init))


def _folder(folder: Path, name: str, **options: Any) -> Path:
    """Write a folder as timm has it."""
    network = timm.create_model(name, **OPTIONS, **options)
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {"architecture": name, "model_args": OPTIONS | options}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_other_heads_than_a_config_states_are_refused(tmp_path: Path) -> None:
    init = _folder(tmp_path, "vit_base_patch16_224", num_heads=4)
    _load(init, "vit_base_patch16_224", "num_heads=4")
    with pytest.raises(UserError, match=r"init: .* has 4 attention heads instead of 2 .*set model\.name=init"):
        _load(init, "vit_base_patch16_224", "num_heads=2")


def test_other_heads_than_transformers_config_states_are_refused(tmp_path: Path) -> None:
    torch.save(
        timm.create_model("vit_base_patch16_224", num_heads=2, **OPTIONS).state_dict(), tmp_path / "pytorch_model.bin"
    )
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit", "num_attention_heads": 2}))
    with pytest.raises(UserError, match="has 2 attention heads instead of 1"):
        _load(tmp_path, "vit_base_patch16_224", "num_heads=1")


@pytest.mark.parametrize("stated", [{"rope_theta": 50.0}, {"rope_parameters": {"rope_theta": 50.0}}])
def test_another_rotary_embedding_than_a_config_states_is_refused(stated: dict[str, Any], tmp_path: Path) -> None:
    network = timm.create_model("vit_base_patch16_dinov3", num_heads=2, **OPTIONS)
    torch.save(network.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 2, **stated}))
    with pytest.raises(UserError, match=r"rotary embeddings of base 50 instead of 100 \(model\.kwargs=\[rope_temp"):
        _load(tmp_path, "vit_base_patch16_dinov3", "num_heads=2")
    _load(tmp_path, "vit_base_patch16_dinov3", "num_heads=2", "rope_temperature=50")
    assert "rope_temperature=50.0" in network_of_init(str(tmp_path)).kwargs


def test_activation_of_timms_architecture_is_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _load(
        _folder(tmp_path, "vit_base_patch16_clip_quickgelu_224", num_heads=1),
        "vit_base_patch16_clip_224",
        "num_heads=1",
    )
    assert "the network of the weights has the activation function quick_gelu" in caplog.text


def _open_clip(folder: Path, vision: dict[str, Any], *, quick_gelu: bool = False, **options: Any) -> Path:
    """Write a folder as OpenCLIP has it: the image tower alone."""
    network = timm.create_model("vit_base_patch16_clip_224", **OPTIONS | options)
    renames = {
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "patch_embed.proj.": "conv1.",
        "norm_pre.": "ln_pre.",
        "blocks.": "transformer.resblocks.",
        ".norm1.": ".ln_1.",
        ".norm2.": ".ln_2.",
        ".qkv.": ".in_proj_",
        ".attn.proj.": ".attn.out_proj.",
        ".fc1.": ".c_fc.",
        ".fc2.": ".c_proj.",
    }
    found: dict[str, Any] = {}
    for name, tensor in network.state_dict().items():
        for ours, theirs in renames.items():
            name = name.replace(ours, theirs)
        name = f"ln_post.{name.removeprefix('norm.')}" if name.startswith("norm.") else name
        shaped = {"class_embedding": (-1,), "positional_embedding": tensor.shape[1:]}
        found[f"visual.{name}"] = tensor.reshape(shaped[name]) if name in shaped else tensor
    torch.save(found, folder / "open_clip_pytorch_model.bin")
    config = {"model_cfg": {"quick_gelu": quick_gelu, "vision_cfg": vision}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def test_heads_of_open_clip_follow_from_their_width(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    vision = {"width": 64, "head_width": 16, "norm_kwargs": {"eps": 1e-6}}
    init = _open_clip(tmp_path, vision, quick_gelu=True, num_heads=4)
    told = network_of_init(str(init))
    assert {"num_heads=4", "norm_eps=1e-06"} <= set(told.kwargs) and "quickgelu" in told.name
    with pytest.raises(UserError, match="has 4 attention heads instead of 1"):
        _load(init, "vit_base_patch16_clip_quickgelu_224", "num_heads=1")
    _load(init, "vit_base_patch16_clip_224", "num_heads=4", "norm_eps=1e-6")
    assert "the activation function quick_gelu" in caplog.text


@pytest.mark.parametrize("stated", [{"pool_type": "avg"}, {"no_ln_pre": True}, {"act_kwargs": {"approximate": "tanh"}}])
def test_image_towers_of_open_clip_that_are_not_clips_are_refused(stated: dict[str, Any], tmp_path: Path) -> None:
    init = _open_clip(tmp_path, {"width": 64, **stated}, num_heads=1)
    with pytest.raises(
        UserError, match=rf"model\.name: .*open_clip_config\.json states vision_cfg\.{next(iter(stated))} = "
    ):
        network_of_init(str(init))


def test_config_of_open_clip_beside_weights_in_other_names_is_of_another_file(tmp_path: Path) -> None:
    torch.save(
        timm.create_model("vit_base_patch16_clip_224", num_heads=4, **OPTIONS).state_dict(),
        tmp_path / "pytorch_model.bin",
    )
    config = {"hidden_act": "gelu", "num_attention_heads": 4, "layer_norm_eps": 1e-3}
    (tmp_path / "config.json").write_text(json.dumps({"vision_config": config}))
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"vision_cfg": {"width": 64}}}))
    assert {"num_heads=4", "norm_eps=0.001"} <= set(network_of_init(str(tmp_path)).kwargs)


def test_config_of_transformers_supplements_that_of_open_clip(tmp_path: Path) -> None:
    init = _open_clip(tmp_path, {"width": 64, "head_width": 16}, num_heads=4)
    (tmp_path / "config.json").write_text(
        json.dumps({"vision_config": {"layer_norm_eps": 1e-3, "num_attention_heads": 9}})
    )
    assert {"num_heads=4", "norm_eps=0.001"} <= set(network_of_init(str(init)).kwargs)
