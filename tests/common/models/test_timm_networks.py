"""Networks with a timm name: class token, crops of several sizes, features of the evaluations, invalid arguments."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import Eva, VisionTransformer

from common.errors import UserError
from common.evaluation.frozen import PooledFeatures, linear_features
from common.evaluation.token_similarity import LayerSimilarities
from common.models.complexity import measure
from common.models.export import export_network
from common.models.freezing import FreezeConfig, adapt_network
from common.models.lora import LoraConfig, LoraLinear, merge_tensors
from common.models.networks import ModelConfig, build_network
from common.models.timm_networks import format_kwargs, parse_kwargs
from common.models.weights import load_init

KWARGS = ("embed_dim=64", "depth=3", "num_heads=2")
NAMES = {
    "vit_small_patch14_reg4_dinov2": VisionTransformer,
    "vit_small_patch16_dinov3": Eva,
    "vit_base_patch16_clip_224": VisionTransformer,
}


def _build(name: str, *, size: int = 32, **options: Any) -> Any:
    config = ModelConfig(name=name, patch_size=8, kwargs=KWARGS, drop_path=0.0)
    torch.manual_seed(0)
    return build_network(config, image_size=size, **{"num_classes": 0, **options}).eval()


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_features_are_those_of_the_class_token_after_the_norm(name: str) -> None:
    network, images = _build(name), torch.randn(2, 3, 32, 32)
    features = network(images)
    assert isinstance(network, NAMES[name]) and network.num_features == 64
    assert torch.equal(features, network.forward_features(images)[:, 0])
    assert torch.equal(features, PooledFeatures(network)(images))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_network_for_crops_equals_that_of_each_size(name: str) -> None:
    """The position embedding of a smaller crop is resampled as in timm, rotary embeddings are of its grid."""
    crops, images = _build(name, multi_crop=True), {size: torch.randn(2, 3, size, size) for size in (32, 16)}
    for size, batch in images.items():
        single = _build(name, size=size)
        weights = dict(crops.state_dict())
        if "pos_embed" in weights and size != 32:
            prefix = 0 if crops.no_embed_class else 1
            resample = timm.layers.resample_abs_pos_embed
            weights["pos_embed"] = resample(weights["pos_embed"], new_size=[2, 2], num_prefix_tokens=prefix)
        single.load_state_dict(weights)
        torch.testing.assert_close(crops(batch), single(batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_evaluations_take_the_class_tokens_of_blocks_and_patch_tokens(name: str) -> None:
    network, images = _build(name), torch.randn(2, 3, 32, 32)
    features = linear_features(network, blocks=2, average_pool=True)(images)
    tokens = network.forward_features(images)
    assert torch.equal(features[:, 64:128], tokens[:, 0])
    torch.testing.assert_close(features[:, 128:], tokens[:, network.num_prefix_tokens :].mean(1))
    assert LayerSimilarities(network)(images).shape == (2, 2 + 3)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"])
def test_attention_products_of_rotary_attention_are_counted(name: str) -> None:
    network = _build(name)
    tokens, width, linear = 16 + 5, 64, 12 * 64 * 64
    stem = 16 * 64 * 3 * 8 * 8
    assert measure(network, 32).macs == stem + 3 * (tokens * linear + 2 * tokens * tokens * width)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_images_of_four_channels_are_taken_counted_and_exported(name: str, tmp_path: Path) -> None:
    network, images = _build(name, in_chans=4), torch.randn(2, 4, 32, 32)
    assert measure(network, 32).macs - measure(_build(name), 32).macs == 16 * 64 * 8 * 8
    shown: dict[str, Any] = {"mean": (0.5,) * 4, "std": (0.5,) * 4, "image_size": 32}
    export_network(network, tmp_path, model_name=name, class_names=[], metrics={}, **shown)
    alone = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    assert torch.equal(alone(images), network(images)) and alone.pretrained_cfg["input_size"] == (4, 32, 32)


OF_LORA = dict.fromkeys((*NAMES, "vit_small_patch16_dinov3_qkvb"), ("fc1", "fc2"))
OF_LORA["vit_small_plus_patch16_dinov3"] = ("fc1_g", "fc1_x", "fc2")


@pytest.mark.parametrize("name", OF_LORA)
def test_every_update_of_lora_is_trained_merged_and_counted(name: str, tmp_path: Path) -> None:
    """DINOv3's attention with biases (qkvb) reads the weight of qkv, as if it had no update."""
    plain, network, images = _build(name), _build(name), torch.randn(2, 3, 32, 32)
    config = LoraConfig(rank=2, targets=("qkv", "proj", *OF_LORA[name]))
    adapt_network(network, FreezeConfig(blocks=1), config)
    torch.testing.assert_close(network(images), plain(images))
    layers = {key: module for key, module in network.named_modules() if isinstance(module, LoraLinear)}
    assert {key.split(".")[1] for key in layers} == {"1", "2"}
    assert len(layers) == 2 * len(config.targets)
    trained = {f"{name}.lora_{each}" for name in layers for each in "AB"}
    assert {name for name, parameter in network.named_parameters() if parameter.requires_grad} == trained
    for layer in layers.values():
        torch.nn.init.normal_(layer.lora_B, std=0.1)
    output = network(images)
    output.square().sum().backward()
    assert all(layer.lora_A.grad.any() and layer.lora_B.grad.any() for layer in layers.values())
    assert not torch.allclose(output, plain(images))
    save_file(merge_tensors(network.state_dict()), tmp_path / "w.safetensors")
    load_init(plain, str(tmp_path / "w.safetensors"))
    torch.testing.assert_close(output, plain(images), atol=1e-5, rtol=1e-4)
    updates = sum(2 * (layer.in_features + layer.out_features) for layer in layers.values())
    tokens = 16 + plain.num_prefix_tokens
    assert measure(network, 32).macs - measure(plain, 32).macs == updates * tokens


@pytest.mark.parametrize("name", NAMES)
def test_freezing_covers_registers_and_whole_blocks(name: str) -> None:
    network = _build(name)
    adapt_network(network, FreezeConfig(embeddings=True, blocks=2), LoraConfig())
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in network.named_parameters() if name.startswith(("blocks.2.", "norm."))}
    with pytest.raises(UserError, match="has 3 blocks"):
        adapt_network(network, FreezeConfig(blocks=4), LoraConfig())


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "vit_small_patch14_dinov2"])
def test_position_embedding_is_resized_as_in_timm(name: str, tmp_path: Path) -> None:
    source, network = _build(name), _build(name, size=64)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    report = load_init(network, str(tmp_path / "w.safetensors"))
    prefix = 0 if network.no_embed_class else 1
    expected = timm.layers.resample_abs_pos_embed(source.pos_embed, new_size=[8, 8], num_prefix_tokens=prefix)
    torch.testing.assert_close(network.pos_embed, expected)
    assert report.resized_from == (4, 4)


def test_image_that_patches_do_not_tile_is_refused() -> None:
    with pytest.raises(
        UserError, match=r"data\.image_size: 224 is not a multiple of the patch size 15 of vit.*210 or 225"
    ):
        build_network(ModelConfig(name="vit_small_patch14_dinov2", patch_size=15), image_size=224, num_classes=0)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"name": "resnet50"}, "'resnet50' is unknown"),
        ({"name": "vit_small_patch14_dinov2", "stem": "conv"}, "'conv' is not supported by vit_small_patch14_dinov2"),
        ({"name": "vit_small_patch14_dinov2", "ffn": "conv1d"}, "'conv1d' is not supported"),
        ({"name": "vit_small_patch14_dinov2", "patch_size": 0}, "0 is not a size"),
        ({"name": "vit_small_patch14_dinov2", "kwargs": ("depth",)}, "'depth' is not name=value"),
        ({"name": "vit_small_patch14_dinov2", "kwargs": ("img_size=32",)}, r"set data\.image_size"),
        ({"name": "vit_small", "kwargs": ("depth=2",)}, "are for networks with a timm name"),
    ],
)
def test_invalid_keys_are_named(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelConfig(**keys)


@pytest.mark.parametrize("kwargs", [("depht=2",), ("num_heads=5",), ("embed_dim=wide",)])
def test_arguments_that_timm_refuses_are_named(kwargs: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"model\.kwargs = .*timm cannot build vit_small_patch14_dinov2"):
        build_network(ModelConfig(name="vit_small_patch14_dinov2", kwargs=kwargs), image_size=28, num_classes=0)


@pytest.mark.parametrize("text", ["none", "None", "null"])
def test_no_value_of_a_keyword_argument_is_none(text: str) -> None:
    assert parse_kwargs((f"init_values={text}",)) == {"init_values": None}
    assert format_kwargs({"init_values": None, "pos_embed": "none"}) == ("init_values=none", "pos_embed='none'")
    assert parse_kwargs(format_kwargs({"init_values": None, "pos_embed": "none"})) == {
        "init_values": None,
        "pos_embed": "none",
    }
