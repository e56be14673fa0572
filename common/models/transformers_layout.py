"""Weights of transformers' vision transformers (ViT, DeiT, ViT-MAE, Dinov2, DINOv3 ViT, CLIP) in timm's names.

transformers keeps queries, keys and values apart; here they are joined. Its names differ between versions: both are read.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from common.models.weights_error import required

_RENAMES = (
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.class_embedding$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings?(\.weight)?$", "pos_embed"),
    (r"^embeddings\.patch_embeddings?\.(projection\.)?", "patch_embed.proj."),
    (r"^(encoder|model)\.layers?\.|^layers?\.", "blocks."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^(layernorm|post_layernorm|norm)\.", "norm."),
    (r"\.(layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.(attention\.attention|attention|self_attn)\.(query|q_proj)\.", ".attn.query."),
    (r"\.(attention\.attention|attention|self_attn)\.(key|k_proj)\.", ".attn.key."),
    (r"\.(attention\.attention|attention|self_attn)\.(value|v_proj)\.", ".attn.value."),
    (r"\.(attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
)
_PARTS = ("query", "key", "value")


def from_transformers(
    weights: Mapping[str, Tensor], model_type: str | None
) -> tuple[str, dict[str, Tensor], list[str]]:
    """Return the layout, the weights in timm's names, and the names of those that only training or another task uses."""
    rotary = any(re.search(r"^(model\.)?layer\.", name) for name in weights)
    gated = any(".mlp.gate_proj." in name for name in weights)
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        found[name.replace(".mlp.up_proj.", ".mlp.fc1_x." if gated else ".mlp.fc1.")] = tensor
    found = found if rotary else _join_gates(found)
    for name in ("cls_token", "pos_embed"):
        if name in found:
            found[name] = found[name].reshape(1, -1, found[name].shape[-1])
    dropped = [name for name in found if name == "mask_token" or name.startswith("pooler.")]
    found = {name: tensor for name, tensor in found.items() if name not in dropped}
    joined = _join_rotary(found) if rotary else _join(found)
    return f"transformers' {model_type or _guess(found, rotary=rotary)}", joined, dropped


def _join(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with queries, keys and values as one matrix and one bias."""
    joined: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if ".attn.query." not in name:
            if not re.search(r"\.attn\.(key|value)\.", name):
                joined[name] = tensor
            continue
        parts = [weights.get(name.replace(".query.", f".{part}.")) for part in _PARTS]
        if any(part is None for part in parts):
            joined[name] = tensor
        else:
            joined[name.replace(".query.", ".qkv.")] = torch.cat([part for part in parts if part is not None])
    return joined


def _join_gates(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return Dinov2's weights with the two halves of its SwiGLU, which transformers 5 keeps apart, as timm's `fc1`."""
    joined = {name: tensor for name, tensor in weights.items() if ".mlp.fc1_" not in name}
    for name, gate in weights.items():
        if ".mlp.fc1_g." in name:
            values = required(weights, name.replace(".fc1_g.", ".fc1_x."))
            joined[name.replace(".fc1_g.", ".fc1.")] = torch.cat([gate, values])
    return joined


def _join_rotary(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return DINOv3's weights in the names of timm's `Eva`: one matrix, the biases of queries and values apart, no bias of keys."""
    biases = {name: tensor for name, tensor in weights.items() if re.search(r"\.attn\.(query|key|value)\.bias$", name)}
    joined = _join({name: tensor for name, tensor in weights.items() if name not in biases})
    named = {}
    for name, tensor in biases.items():
        named[re.sub(r"\.attn\.(\w)\w+\.bias$", r".attn.\1_bias", name)] = tensor
    renamed = {re.sub(r"\.ls([12])\.gamma$", r".gamma_\1", name): tensor for name, tensor in joined.items()}
    if "register_tokens" in renamed:
        renamed["reg_token"] = renamed.pop("register_tokens")
    return renamed | named


def _guess(weights: Mapping[str, Tensor], *, rotary: bool) -> str:
    """Return the model type of weights without a config."""
    if rotary:
        return "dinov3_vit"
    if "norm_pre.weight" in weights:
        return "clip_vision_model"
    if any(name.endswith(".ls1.gamma") for name in weights):
        return "dinov2_with_registers" if "register_tokens" in weights else "dinov2"
    return "vit"
