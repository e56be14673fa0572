"""Weights of every family, saved in the layout of its own program, give the features of timm's and transformers' networks.

The networks are tiny and of random weights; `model.name=init` tells them from the file alone.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from common.models import weight_files
from common.models.init_network import network_of_init
from common.models.networks import ModelConfig, build_network
from common.models.weight_files import read_weights
from common.models.weights import load_init

PATCH, SIZE = 8, 32
TINY = {"embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": SIZE, "patch_size": PATCH}


def _randomize(network: nn.Module) -> Any:
    """Draw every parameter, so that no part of the network is without effect."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(
                torch.randn_like(parameter) * 0.2 + (1.0 if re.search(r"norm\w*\.weight|gamma", name) else 0.0)
            )
    return network.eval()


def _timm(name: str, **options: Any) -> Any:
    pooling = {"global_pool": "token"} if "dinov3" in name else {}
    return _randomize(timm.create_model(name, **{"num_classes": 0, **TINY, **pooling, **options}))


def _loaded(init: Path, *, num_classes: int = 0, size: int = SIZE, multi_crop: bool = False) -> Any:
    config = network_of_init(str(init)).config()
    network = build_network(config, image_size=size, num_classes=num_classes, multi_crop=multi_crop)
    load_init(network, str(init))
    return network.eval()


def _assert_same(network: nn.Module, reference: Callable[[Tensor], Tensor], size: int = SIZE) -> None:
    torch.manual_seed(1)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(network(images), reference(images), atol=1e-5, rtol=0)


def _chunked(name: str) -> str:
    return re.sub(r"^blocks\.(\d+)", lambda found: f"blocks.{int(found[1]) // 2}.{found[1]}", name)


def _dinov2(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's weights as DINOv2's program names them."""
    found = {
        (name.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.") if gated else name): tensor
        for gated in (weights["blocks.0.mlp.fc1.weight"].shape[0] != weights["blocks.0.mlp.fc2.weight"].shape[1],)
        for name, tensor in weights.items()
    }
    if "reg_token" in found:
        position = torch.randn(1, 1, found["cls_token"].shape[-1])
        found["register_tokens"] = found.pop("reg_token")
        found["cls_token"] = found["cls_token"] - position
        found["pos_embed"] = torch.cat([position, found["pos_embed"]], dim=1)
    return found | {"mask_token": torch.randn(1, 64)}


def _periods(count: int, base: float = 100.0) -> Tensor:
    """Return the periods of a rotary embedding as DINOv3's program keeps them."""
    return base ** (torch.arange(count) / count)


def _dinov3(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's weights as DINOv3's program names them."""
    found: dict[str, Tensor] = {"mask_token": torch.zeros(1, 64), "rope_embed.periods": _periods(16)}
    for name, tensor in weights.items():
        if name.endswith("v_bias"):
            continue
        if name.endswith("q_bias"):
            key = torch.randn_like(tensor)
            base = name.removesuffix("q_bias")
            found[f"{base}qkv.bias"] = torch.cat([tensor, key, weights[f"{base}v_bias"]])
            found[f"{base}qkv.bias_mask"] = torch.cat([torch.ones(64), torch.zeros(64), torch.ones(64)])
            continue
        for ours, theirs in (
            ("reg_token", "storage_tokens"),
            ("gamma_1", "ls1.gamma"),
            ("gamma_2", "ls2.gamma"),
            ("fc1_g", "w1"),
            ("fc1_x", "w2"),
        ):
            name = name.replace(ours, theirs)
        gated = "blocks.0.mlp.fc1_g.weight" in weights
        found[name.replace("mlp.fc2", "mlp.w3") if gated else name] = tensor
    if "blocks.0.attn.q_bias" not in weights:
        for block in range(2):
            found[f"blocks.{block}.attn.qkv.bias"] = torch.cat([torch.zeros(64), torch.ones(64), torch.zeros(64)])
            found[f"blocks.{block}.attn.qkv.bias_mask"] = torch.zeros(192)
    return found


def _clip(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's weights as OpenAI's CLIP names its image tower, beside a text tower."""
    found = {
        "text_projection": torch.zeros(3),
        "positional_embedding": torch.zeros(3, 3),
        "visual.proj": torch.zeros(64, 3),
    }
    for name, tensor in weights.items():
        for ours, theirs in (
            (r"^cls_token$", "class_embedding"),
            (r"^pos_embed$", "positional_embedding"),
            (r"^patch_embed\.proj\.", "conv1."),
            (r"^norm_pre\.", "ln_pre."),
            (r"^norm\.", "ln_post."),
            (r"attn\.qkv\.", "attn.in_proj_"),
            (r"attn\.proj\.", "attn.out_proj."),
            (r"\.norm([12])\.", r".ln_\1."),
            (r"mlp\.fc1\.", "mlp.c_fc."),
            (r"mlp\.fc2\.", "mlp.c_proj."),
            (r"^blocks\.", "transformer.resblocks."),
        ):
            name = re.sub(ours, theirs, name)
        shaped = {"class_embedding": lambda each: each[0, 0], "positional_embedding": lambda each: each[0]}
        found[f"visual.{name}"] = shaped[name](tensor) if name in shaped else tensor
    return found


def _same(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return dict(weights)


OFFICIAL: dict[str, tuple[str, dict[str, Any], Callable[[dict[str, Tensor]], dict[str, Tensor]]]] = {
    "DINO": ("vit_small_patch16_224", {}, _same),
    "MAE": (
        "vit_base_patch16_224",
        {},
        lambda weights: weights | {"mask_token": torch.zeros(1), "decoder_norm.bias": torch.zeros(2)},
    ),
    "DINOv2": ("vit_small_patch14_dinov2", {}, _dinov2),
    "DINOv2 with registers": ("vit_small_patch14_reg4_dinov2", {}, _dinov2),
    "DINOv2 ViT-g": ("vit_giant_patch14_reg4_dinov2", {"mlp_ratio": 5.375}, _dinov2),
    "DINOv2 with 2 registers": ("vit_small_patch14_reg4_dinov2", {"reg_tokens": 2}, _dinov2),
    "DINOv3": ("vit_small_patch16_dinov3", {}, _dinov3),
    "DINOv3 with biases": ("vit_small_patch16_dinov3_qkvb", {}, _dinov3),
    "DINOv3 with SwiGLU": ("vit_small_plus_patch16_dinov3", {}, _dinov3),
    "DeiT III": ("deit3_small_patch16_224", {}, _same),
    "bias-free": ("vit_base_patch16_224", {"qkv_bias": False}, _same),
}


@pytest.mark.parametrize("family", OFFICIAL)
@pytest.mark.parametrize("layout", ["release", "teacher", "training"])
def test_official_weights_give_the_features_of_timm(family: str, layout: str, tmp_path: Path) -> None:
    name, options, official = OFFICIAL[family]
    reference = _timm(name, **options)
    weights = official({key: tensor.clone() for key, tensor in reference.state_dict().items()})
    chunked = {f"backbone.{_chunked(key)}": tensor for key, tensor in weights.items()}
    head = {"dino_head.last_layer.weight": torch.zeros(2, 2)}
    student = {f"student.{key}": torch.zeros_like(tensor) for key, tensor in chunked.items()}
    content: dict[str, Any] = {
        "release": weights,
        "teacher": {"teacher": chunked | head},
        "training": {"model": student | {f"teacher.{key}": tensor for key, tensor in (chunked | head).items()}},
    }[layout]
    torch.save(content, tmp_path / "weights.pth")
    _assert_same(_loaded(tmp_path / "weights.pth"), reference)


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_open_clip_folder_gives_the_features_of_timm(quick_gelu: bool, tmp_path: Path) -> None:
    reference = _timm(f"vit_base_patch16_clip{'_quickgelu' * quick_gelu}_224")
    weights = _clip({key: tensor.clone() for key, tensor in reference.state_dict().items()})
    torch.save(weights, tmp_path / "open_clip_pytorch_model.bin")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": quick_gelu}}))
    _assert_same(_loaded(tmp_path), reference)


TIMM = [
    "vit_small_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "vit_small_patch16_dinov3_qkvb",
    "vit_base_patch16_clip_224",
    "vit_base_patch16_clip_quickgelu_224",
    "vit_base_patch16_siglip_224",
    "eva02_tiny_patch14_224",
]


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("num_classes", [0, 3])
def test_folder_of_timm_gives_its_outputs(name: str, num_classes: int, tmp_path: Path) -> None:
    reference = _timm(name, num_classes=num_classes)
    save_file(
        {key: tensor.contiguous() for key, tensor in reference.state_dict().items()}, tmp_path / "model.safetensors"
    )
    config = {"architecture": name, "num_classes": num_classes, "model_args": TINY, "pretrained_cfg": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    _assert_same(_loaded(tmp_path, num_classes=num_classes), reference)


TRANSFORMERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ViT": ("ViTModel", "ViTConfig", {"intermediate_size": 96}),
    "ViT without biases": ("ViTModel", "ViTConfig", {"intermediate_size": 96, "qkv_bias": False}),
    "DeiT-like MAE": ("ViTMAEModel", "ViTMAEConfig", {"intermediate_size": 96, "mask_ratio": 0.0}),
    "Dinov2": ("Dinov2Model", "Dinov2Config", {}),
    "Dinov2 with SwiGLU": ("Dinov2Model", "Dinov2Config", {"use_swiglu_ffn": True}),
    "Dinov2 with registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", {}),
    "DINOv3": ("DINOv3ViTModel", "DINOv3ViTConfig", {"intermediate_size": 96, "num_register_tokens": 4}),
    "DINOv3 without biases": (
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {"intermediate_size": 96, "num_register_tokens": 4, "query_bias": False, "value_bias": False},
    ),
    "DINOv3 gated": (
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {"intermediate_size": 96, "num_register_tokens": 2, "use_gated_mlp": True, "hidden_act": "silu"},
    ),
    "CLIP": ("CLIPVisionModel", "CLIPVisionConfig", {"intermediate_size": 96}),
    "CLIP with GELU": ("CLIPVisionModel", "CLIPVisionConfig", {"intermediate_size": 96, "hidden_act": "gelu"}),
}
_SHAPE = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIZE, "patch_size": PATCH}


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_folder_of_transformers_gives_its_features(family: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers' own networks")
    model, config, options = TRANSFORMERS[family]
    reference = _randomize(getattr(transformers, model)(getattr(transformers, config)(**_SHAPE, **options)))
    reference.save_pretrained(tmp_path)

    def features(images: Tensor) -> Tensor:
        if "MAE" in model:
            noise = torch.arange((SIZE // PATCH) ** 2).expand(len(images), -1)
            return reference(images, noise=noise.float()).last_hidden_state[:, 0]
        if "CLIP" in model:
            return reference(images).pooler_output
        return reference(images).last_hidden_state[:, 0]

    _assert_same(_loaded(tmp_path), features)


def test_classifier_of_transformers_vit_gives_its_logits(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers' own networks")
    config = transformers.ViTConfig(**_SHAPE, intermediate_size=96, num_labels=5)
    reference = _randomize(transformers.ViTForImageClassification(config))
    reference.save_pretrained(tmp_path, safe_serialization=True)
    _assert_same(_loaded(tmp_path, num_classes=5), lambda images: reference(images).logits)


@pytest.mark.parametrize(
    ("kind", "tower", "dropped"),
    [
        ("Dinov2ForImageClassification", "dinov2", "classifier (2 tensors)"),
        ("ViTMAEForPreTraining", "vit", "decoder"),
        ("CLIPVisionModelWithProjection", "vision_model", "visual_projection (1 tensor)"),
        ("CLIPModel", "vision_model", "text_model"),
    ],
)
def test_backbone_within_another_network_of_transformers_is_taken(
    kind: str, tower: str, dropped: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers' own networks")
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    decoder = {f"decoder_{name}": value for name, value in small.items()}
    configs = {
        "Dinov2ForImageClassification": lambda: transformers.Dinov2Config(**_SHAPE),
        "ViTMAEForPreTraining": lambda: transformers.ViTMAEConfig(
            **_SHAPE, **decoder, intermediate_size=96, mask_ratio=0.0
        ),
        "CLIPVisionModelWithProjection": lambda: transformers.CLIPVisionConfig(**_SHAPE, intermediate_size=96),
        "CLIPModel": lambda: transformers.CLIPConfig(
            vision_config={**_SHAPE, "intermediate_size": 96}, text_config=small
        ),
    }
    network = _randomize(getattr(transformers, kind)(configs[kind]()))
    network.save_pretrained(tmp_path)
    caplog.set_level("INFO")

    def features(images: Tensor) -> Tensor:
        outputs = getattr(network, tower)(images)
        return outputs.pooler_output if "CLIP" in kind else outputs.last_hidden_state[:, 0]

    _assert_same(_loaded(tmp_path), features)
    assert dropped in caplog.text and "warning" not in caplog.text


def _without_distillation(distilled: Any, **options: Any) -> Any:
    """Return timm's network without a distillation token and with the other weights of one that has it."""
    state = {name: tensor for name, tensor in distilled.state_dict().items() if "dist" not in name}
    positions = [index for index in range(state["pos_embed"].shape[1]) if index != 1]
    plain = _timm("deit_tiny_patch16_224", **options)
    plain.load_state_dict(state | {"pos_embed": state["pos_embed"][:, positions]})
    return plain


@pytest.mark.parametrize("form", ["DeiT's file", "timm's folder"])
def test_distilled_deit_is_read_without_its_distillation_token(
    form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distilled = _timm("deit_tiny_distilled_patch16_224", num_classes=5)
    init = tmp_path / "w.pth"
    if form == "timm's folder":
        init = tmp_path
        save_file(distilled.state_dict(), init / "model.safetensors")
        config = {"architecture": "deit_tiny_distilled_patch16_224", "num_classes": 5, "model_args": TINY}
        (init / "config.json").write_text(json.dumps(config))
    else:
        torch.save({"model": distilled.state_dict()}, init)
    caplog.set_level("INFO")
    _assert_same(_loaded(init, num_classes=5), _without_distillation(distilled, num_classes=5))
    assert "not loaded: dist_token (1 tensor), head_dist (2 tensors)" in caplog.text
    assert "init: warning: the weights are of a network with a distillation token" in caplog.text


def test_distilled_deit_of_transformers_is_read_without_its_distillation_token(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="reads transformers' own files")
    config = transformers.DeiTConfig(**_SHAPE, intermediate_size=96)
    reference = _randomize(transformers.DeiTForImageClassificationWithTeacher(config))
    reference.save_pretrained(tmp_path)
    network, embeddings = _loaded(tmp_path), reference.deit.embeddings
    position = embeddings.position_embeddings[:, [0, *range(2, 2 + (SIZE // PATCH) ** 2)]]
    assert torch.equal(network.pos_embed, position) and torch.equal(network.cls_token, embeddings.cls_token)


def test_distilled_deit_of_timm_is_read_without_its_distillation_token(monkeypatch: pytest.MonkeyPatch) -> None:
    distilled = _timm("deit_tiny_distilled_patch16_224")
    expected = _without_distillation(distilled).state_dict()
    monkeypatch.setattr(weight_files, "timm_arguments", lambda *_: {})
    monkeypatch.setattr(timm, "create_model", lambda name, **_: distilled)
    weights = read_weights("timm:deit_tiny_distilled_patch16_224.fb_in1k")
    assert weights.had_distillation_token and weights.network.tensors.keys() == expected.keys()
    assert all(torch.equal(weights.network.tensors[name], tensor) for name, tensor in expected.items())
    assert network_of_init("timm:deit_base_distilled_patch16_384.fb_in1k").name == "deit_base_patch16_384"


@pytest.mark.parametrize(
    ("family", "name", "words"),
    [
        ("ViT", "vit_base_patch16_224", "layer norms with epsilon 1e-12 instead of 1e-06"),
        ("CLIP", "vit_base_patch16_clip_224", "the activation function quick_gelu"),
        ("Dinov2", "vit_base_patch14_dinov2", None),
    ],
)
def test_settings_that_no_tensor_states_are_compared(
    family: str, name: str, words: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transformers = pytest.importorskip("transformers", reason="compares with transformers' own networks")
    model, config, options = TRANSFORMERS[family]
    getattr(transformers, model)(getattr(transformers, config)(**_SHAPE, **options)).save_pretrained(tmp_path)
    ratio = 4.0 if family == "Dinov2" else 1.5
    kwargs = ("embed_dim=64", "depth=2", "num_heads=2", f"mlp_ratio={ratio}")
    network = build_network(ModelConfig(name=name, patch_size=PATCH, kwargs=kwargs), image_size=SIZE, num_classes=0)
    load_init(network, str(tmp_path))
    assert ("init: warning: the network of the weights has" in caplog.text) == (words is not None)
    assert words is None or words in caplog.text
