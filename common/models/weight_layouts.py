"""Weights of other programs in timm's names: official DINO, DINOv2, DINOv3, MAE and CLIP files, and those of transformers.

The official programs name a vision transformer as timm does, with few exceptions:

    DINOv2, DINOv3 in training   blocks in chunks, blocks.0.3.norm1; a mask token
    DINOv2 with registers        register_tokens; the class token has a position embedding, in timm it is added to the token
    DINOv2 ViT-g                 SwiGLU as w12, w3
    DINOv3                       `dinov3_layout`
    MAE in training              a decoder and a mask token
    CLIP                         names of its own, a projection
    distilled DeiT               a distillation token, with a position and a classifier (`distillation_token`)

Nothing is resized here: `load_init` does that for the network that loads the weights.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from common.models.dinov3_layout import from_dinov3
from common.models.distillation_token import without_distillation_token
from common.models.network_settings import NetworkSettings
from common.models.transformers_layout import from_transformers
from common.models.weights_error import required

_CHUNKED = re.compile(r"blocks\.\d+\.(\d+)\.(.+)")
_ONLY_TRAINING = re.compile(
    r"mask_token|masked_embed|decoder_?[a-z_]*(\..*)?|(dino_|ibot_|cls_)?head\.(mlp|last_layer2?|\d+)\..*|(dino|ibot)_head\..*"
    r"|local_cls_norm\..*|n_averaged"
)
"""Tensors that only training uses: mask token, MAE's decoder, projection heads (MoCo v3's by number), the norm of DINOv3's local
views, the count of torch's AveragedModel."""


@dataclass(frozen=True, kw_only=True)
class NamedWeights:
    """Weights in timm's names."""

    tensors: dict[str, Tensor]
    layout: str
    """Program in whose names they were saved, with its network: DINOv2, DINOv3, CLIP, transformers' dinov2; else timm."""
    dropped: list[str] = field(default_factory=list)
    """Names of the tensors that only training uses."""
    settings: NetworkSettings = NetworkSettings()
    """Settings that no tensor of the network tells, where the file does."""
    had_distillation_token: bool = False
    """Whether the network has a distillation token, which is dropped."""


def to_timm_names(weights: Mapping[str, Tensor], model_type: str | None = None) -> NamedWeights:
    """Return the weights of one network in timm's names; those that already are in timm's names unchanged.

    `model_type` is that of transformers' config beside them, if there is one. A distillation token is dropped. Raise LayoutError
    for weights that are incomplete, and for a setting of theirs that no network here has.
    """
    named = _rename(weights, model_type)
    tensors, dropped = without_distillation_token(named.tensors)
    return replace(named, tensors=tensors, dropped=[*named.dropped, *dropped], had_distillation_token=bool(dropped))


def _rename(weights: Mapping[str, Tensor], model_type: str | None) -> NamedWeights:
    """Return the weights of one network in timm's names."""
    if any(name.startswith("embeddings.") for name in weights):
        layout, found, dropped = from_transformers(weights, model_type)
        return NamedWeights(tensors=_registers(found) if "dinov2" in layout else found, layout=layout, dropped=dropped)
    if "class_embedding" in weights:
        return _from_clip(weights)
    named = _without_chunks(weights)
    dropped = [name for name in named if _ONLY_TRAINING.fullmatch(name)]
    kept = {name: tensor for name, tensor in named.items() if name not in dropped}
    if any(name == "storage_tokens" or name.startswith("rope_embed.") for name in named):
        tensors, settings = from_dinov3(kept)
        return NamedWeights(tensors=tensors, layout="DINOv3", dropped=dropped, settings=settings)
    has_layer_scale = any(name.endswith(".ls1.gamma") for name in kept)
    is_dinov2 = "register_tokens" in kept or (has_layer_scale and "mask_token" in dropped)
    tensors = _swiglu(_registers(kept)) if is_dinov2 else kept
    return NamedWeights(tensors=tensors, layout="DINOv2" if is_dinov2 else "timm", dropped=dropped)


def _without_chunks(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with blocks.<chunk>.<block> as blocks.<block>, if all blocks are in chunks."""
    blocks = [name for name in weights if name.startswith("blocks.")]
    if not blocks or not all(_CHUNKED.fullmatch(name) for name in blocks):
        return dict(weights)
    return {_CHUNKED.sub(r"blocks.\1.\2", name): tensor for name, tensor in weights.items()}


def _registers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return DINOv2's weights with its registers as timm has them: the class token's position embedding is added to the token."""
    if "register_tokens" not in weights:
        return weights
    found = {name: tensor for name, tensor in weights.items() if name != "register_tokens"}
    position, token = required(found, "pos_embed"), required(found, "cls_token")
    found |= {"reg_token": weights["register_tokens"], "pos_embed": position[:, 1:]}
    found["cls_token"] = token.float() + position[:, :1].float()  # a sum in half precision is rounded
    return found


def _swiglu(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return DINOv2's weights with its SwiGLU, w12 and w3, as timm's fc1 and fc2."""
    return {name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2."): t for name, t in weights.items()}


def _from_clip(weights: Mapping[str, Tensor]) -> NamedWeights:
    """Return the image tower of OpenAI's and OpenCLIP's CLIP in timm's names, without its projection into the space of texts."""
    renames = (
        (r"^class_embedding$", "cls_token"),
        (r"^positional_embedding$", "pos_embed"),
        (r"^conv1\.", "patch_embed.proj."),
        (r"^ln_pre\.", "norm_pre."),
        (r"^ln_post\.", "norm."),
        (r"^transformer\.resblocks\.", "blocks."),
        (r"\.attn\.in_proj_", ".attn.qkv."),
        (r"\.attn\.out_proj\.", ".attn.proj."),
        (r"\.ln_([12])\.", r".norm\1."),
        (r"\.mlp\.c_fc\.", ".mlp.fc1."),
        (r"\.mlp\.c_proj\.", ".mlp.fc2."),
        (r"\.ls_([12])\.", r".ls\1."),
    )
    found = {}
    for name, tensor in weights.items():
        if name == "proj":
            continue
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    found["cls_token"] = found["cls_token"].view(1, 1, -1)
    found["pos_embed"] = required(found, "pos_embed")[None]
    return NamedWeights(tensors=found, layout="CLIP", dropped=["proj"] if "proj" in weights else [])
