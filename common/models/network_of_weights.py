"""The network of weights, told from their tensors and from what is stated about them: a name for `model.name` and `model.kwargs`.

Weights do not tell the number of attention heads: that of the published networks of their width is assumed (`attention_heads`),
unless a config, the file or the recipe states it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from common.errors import UserError
from common.models.attention_heads import published_heads
from common.models.meta import on_meta_device
from common.models.network_settings import NetworkSettings
from common.models.networks import ModelConfig, Network, build_network
from common.models.other_networks import kind_of_network
from common.models.patch_geometry import read_config
from common.models.timm_networks import format_kwargs, is_timm_transformer
from common.models.weight_files import Weights
from common.sizes import height_and_width

_STEM = "patch_embed.proj.weight"
_OF_GRID_AND_CLASSES = ("pos_embed", "head.")
_BASE_OF_DINOV3 = 100.0
"""Base of the rotary embedding in timm's networks of DINOv3."""
_SIZES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1280, 32): "huge"}
_SIZES |= {(1536, 40): "giant", (4096, 40): "7b"}


@dataclass(frozen=True, kw_only=True)
class NamedNetwork:
    """A network as a recipe names it."""

    name: str
    patch_size: int | None = None
    kwargs: tuple[str, ...] = ()
    stem: str | None = None
    stem_strides: tuple[int, ...] | None = None
    ffn: str = "mlp"
    assumed_heads: int | None = None
    """Number of heads, if nothing states it and it is assumed."""

    def config(self) -> ModelConfig:
        """Return the recipe's section."""
        return ModelConfig(
            name=self.name,
            patch_size=self.patch_size,
            kwargs=self.kwargs,
            stem=self.stem,
            stem_strides=self.stem_strides,
            ffn=self.ffn,
        )


@dataclass(frozen=True, kw_only=True)
class _Family:
    """Networks that differ in their size only."""

    names: tuple[str, ...]
    """Names of all sizes, `{}` for the size."""
    base: str
    """Name that takes any size as keyword arguments."""
    kwargs: dict[str, Any]
    """Further keyword arguments for `base`."""
    mlp_rows: str = "blocks.0.mlp.fc1.weight"
    """Tensor with as many rows as the feed-forward block has hidden features."""
    eps: float = 1e-6
    """Epsilon of timm's layer norms."""


def patch_of_weights(weights: Weights) -> int | None:
    """Return the side of a patch of weights with a patchify stem, or None for any other network."""
    tensors = weights.network.tensors
    stem, kernels = (
        tensors.get(_STEM),
        sum(t.dim() == 4 for name, t in tensors.items() if name.startswith("patch_embed.")),
    )
    is_patchify = stem is not None and stem.dim() == 4 and kernels == 1 and stem.shape[2] == stem.shape[3]
    return int(stem.shape[2]) if stem is not None and is_patchify else None


def network_of_weights(
    weights: Weights, stated: NetworkSettings, init: str, *, image_size: int | tuple[int, int] | None = None
) -> NamedNetwork:
    """Return the network of a vision transformer's weights; `stated` is what a config beside them or the recipe states.

    `image_size` is that of the recipe: it decides where a number of positions has two readings. Raise UserError for weights of
    any other network, and where the number of heads is neither stated nor that of a published network.
    """
    tensors, patch, stated = weights.network.tensors, patch_of_weights(weights), stated.or_else(weights.settings)
    if (kind := kind_of_network(tensors)) is not None:
        raise UserError(f"model.name: init stands for the network of {init}, but these are {kind}")
    _check_activation(tensors, stated, init)
    blocks = {int(found[1]) for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))}
    has_class_position = _has_class_position(weights, image_size)
    family = _family(tensors, stated, has_class_position=has_class_position) if patch is not None and blocks else None
    if patch is None or family is None or family.mlp_rows not in tensors:
        raise UserError(
            f"model.name: init stands for the network of {init}, which cannot be told from its tensors: they are not of a vision"
            " transformer with a patchify stem, as timm, DINO and CLIP have it; set"
            " model.name to its name"
        )
    width, depth = tensors[_STEM].shape[0], len(blocks)
    num_heads = stated.num_heads or _published_heads(tensors, width, init)
    assumed = None if stated.num_heads else num_heads
    stated_eps = family.eps if stated.norm_eps is None else stated.norm_eps
    eps = () if stated_eps == family.eps else (f"norm_eps={stated_eps}",)
    for name in _names(family, (width, depth)):
        if eps and not is_timm_transformer(name):
            continue
        network = NamedNetwork(name=name, patch_size=patch, kwargs=eps, assumed_heads=assumed)
        if _fits(network, tensors, num_heads):
            return network
    sizes: dict[str, Any] = {"embed_dim": width, "depth": depth, "num_heads": num_heads}
    sizes |= {"mlp_ratio": _ratio(tensors[family.mlp_rows].shape[0], width)}
    kwargs = (*format_kwargs(sizes | family.kwargs), *eps)
    return NamedNetwork(name=family.base, patch_size=patch, kwargs=kwargs, assumed_heads=assumed)


def describe_network(weights: Weights) -> str:
    """Return the network of weights in parentheses, as an export of this project or its tensors state it, or an empty string."""
    network = read_config(Path(weights.source)).get("network")
    if isinstance(network, dict):
        return f" ({', '.join(f'{name}={value}' for name, value in network.items())})"
    try:
        told = network_of_weights(weights, NetworkSettings(), weights.source)
    except (UserError, OSError):
        return ""
    kwargs = f", kwargs=[{','.join(told.kwargs)}]" if told.kwargs else ""
    return f" (name={told.name}, patch_size={told.patch_size}{kwargs})"


def is_network_of(weights: Weights, expected: Mapping[str, Tensor]) -> bool:
    """Return whether a network with these tensors is the one that is told from weights, whatever its grid and its classifier."""
    try:
        told = network_of_weights(weights, NetworkSettings(), weights.source)
    except (UserError, OSError):
        return False
    shapes = _shapes(told, weights.network.tensors)
    return shapes == {name: tuple(t.shape) for name, t in expected.items() if not name.startswith(_OF_GRID_AND_CLASSES)}


def _shapes(network: NamedNetwork, tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a network's tensors, without those of its grid and its classifier."""
    with on_meta_device():
        state = _build(network, tensors).state_dict()
    return {name: tuple(t.shape) for name, t in state.items() if not name.startswith(_OF_GRID_AND_CLASSES)}


def _family(tensors: Mapping[str, Tensor], stated: NetworkSettings, *, has_class_position: bool) -> _Family | None:
    """Return the family of a vision transformer's weights in timm's names, or None if it is not known."""
    if "blocks.0.gamma_1" in tensors:
        return _dinov3(tensors, stated) if "pos_embed" not in tensors else None
    if "pos_embed" not in tensors or "blocks.0.attn.qkv.weight" not in tensors:
        return None
    kwargs: dict[str, Any] = {} if "blocks.0.attn.qkv.bias" in tensors else {"qkv_bias": False}
    registers = tensors.get("reg_token")
    if "norm_pre.weight" in tensors:
        quick = {"quick_gelu": "_quickgelu", "gelu": ""}.get(str(stated.activation))
        if quick is None:
            raise UserError(
                "model.name: init stands for the network of the weights, and CLIP's do not tell the activation function; set"
                " model.name, in the size of the weights, to vit_base_patch16_clip_224 (GELU, OpenCLIP) or"
                " vit_base_patch16_clip_quickgelu_224 (OpenAI)"
            )
        names = tuple(f"vit_{{}}_patch{patch}_clip{quick}_224" for patch in (16, 32, 14))
        return _Family(names=names, base=f"vit_base_patch16_clip{quick}_224", kwargs=kwargs, eps=1e-5)
    if "blocks.0.ls1.gamma" in tensors:
        rows, columns = tensors.get("blocks.0.mlp.fc1.weight"), tensors.get("blocks.0.mlp.fc2.weight")
        gated = rows is not None and columns is not None and rows.shape[0] != columns.shape[1]
        suffix = f"_reg{registers.shape[1]}" if registers is not None else ""
        own = {"reg_tokens": registers.shape[1]} if registers is not None and suffix != "_reg4" else {}
        if registers is None and not has_class_position:
            own["no_embed_class"] = True  # DeiT III
        reg = "_reg4" if registers is not None else ""
        base = f"vit_{'giant' if gated else 'base'}_patch14{reg}_dinov2"
        return _Family(names=(f"vit_{{}}_patch14{suffix}_dinov2",), base=base, kwargs=kwargs | own)
    if "fc_norm.weight" in tensors:
        kwargs["global_pool"] = "avg"
    names = ("vit_{}", "vit_{}_patch16_224", "vit_{}_patch14_224") if not kwargs else ()
    return _Family(names=names, base="vit_base_patch16_224", kwargs=kwargs)


def _check_activation(tensors: Mapping[str, Tensor], settings: NetworkSettings, init: str) -> None:
    """Raise UserError for a stated activation function that timm's network of these weights has not."""
    stated = settings.activation
    known = ("silu",) if "blocks.0.mlp.fc1_g.weight" in tensors else ("gelu", "quick_gelu")
    if stated is None or stated in known[: 2 if "norm_pre.weight" in tensors else 1]:
        return
    raise UserError(
        f"model.name: init stands for the network of {init}, whose activation function {stated} no such network of timm has; use"
        " other weights"
    )


def _dinov3(tensors: Mapping[str, Tensor], stated: NetworkSettings) -> _Family:
    """Return the family of DINOv3's weights: with or without biases, with MLPs or SwiGLU."""
    biased = any(tensor.any() for name, tensor in tensors.items() if name.endswith((".attn.q_bias", ".attn.v_bias")))
    gated = "blocks.0.mlp.fc1_g.weight" in tensors
    suffix = "_qkvb" if biased else ""
    registers = tensors.get("reg_token")
    kwargs: dict[str, Any] = {}
    if registers is None or registers.shape[1] != 4:
        kwargs["num_reg_tokens"] = 0 if registers is None else registers.shape[1]
    if stated.rope_temperature not in (None, _BASE_OF_DINOV3):
        kwargs["rope_temperature"] = stated.rope_temperature
    rows = "blocks.0.mlp.fc1_g.weight" if gated else "blocks.0.mlp.fc1.weight"
    if gated and tensors[rows].shape[0] % 8:
        kwargs["swiglu_align_to"] = 1
    sizes = (f"vit_{{}}_plus_patch16_dinov3{suffix}", f"vit_{{}}_patch16_dinov3{suffix}")
    base = f"vit_small_plus_patch16_dinov3{suffix}" if gated else f"vit_base_patch16_dinov3{suffix}"
    return _Family(names=() if kwargs else sizes, base=base, kwargs=kwargs, mlp_rows=rows, eps=1e-5)


def _names(family: _Family, size: tuple[int, int]) -> Iterator[str]:
    """Yield the names of networks of this size, the ones of this project first."""
    if size not in _SIZES:
        return
    for template in family.names:
        name = template.format(_SIZES[size])
        if name in ("vit_tiny", "vit_small", "vit_base") or is_timm_transformer(name):
            yield name


def _build(network: NamedNetwork, tensors: Mapping[str, Tensor]) -> Network:
    """Build a network for the channels of these tensors."""
    size, channels = 16 * (network.patch_size or 1), tensors[_STEM].shape[1]
    return build_network(network.config(), image_size=size, num_classes=0, in_chans=channels)


def _fits(network: NamedNetwork, tensors: Mapping[str, Tensor], num_heads: int) -> bool:
    """Return whether a network has these tensors and as many heads, whatever its grid and its classifier."""
    with on_meta_device():
        model: Any = _build(network, tensors)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items() if name != "pos_embed"}
    biases = (".attn.q_bias", ".attn.v_bias")
    same = all(name in tensors and tensors[name].shape == shape for name, shape in expected.items())
    given = {name for name in tensors if not name.startswith(("head.", "pos_embed")) and not name.endswith(biases)}
    return same and given <= expected.keys() and model.blocks[0].attn.num_heads == num_heads


def _published_heads(tensors: Mapping[str, Tensor], width: int, init: str) -> int:
    """Return the number of heads of the published network of this width; raise UserError if there is none."""
    if (published := published_heads(tensors, width)) is None:
        raise UserError(
            f"model.name: init stands for the network of {init}, which is {width} wide: nothing states its number of heads, and no"
            " published network of its kind has this width; set model.kwargs=[num_heads=<number>]"
        )
    return published


def _has_class_position(weights: Weights, image_size: int | tuple[int, int] | None) -> bool:
    """Return whether the position embedding has one for the class token, which DeiT III's has not.

    A number of positions that is no square includes it. A square may be one less: an oblong grid, if the program is DINOv2's, or
    if the config's or the recipe's images (`image_size`) are of that grid.
    """
    position, patch = weights.network.tensors.get("pos_embed"), patch_of_weights(weights)
    if position is None or patch is None or math.isqrt(position.shape[1]) ** 2 != position.shape[1]:
        return True
    grid = weights.geometry.grid((patch, patch)) if weights.geometry else None
    if grid is None and image_size is not None:
        height, width = height_and_width(image_size)
        grid = (height // patch, width // patch)
    return "dinov2" in weights.layout.lower() or (grid is not None and position.shape[1] - 1 == math.prod(grid))


def _ratio(rows: int, width: int) -> float:
    """Return the ratio whose product with the width timm rounds down to `rows`."""
    ratio = rows / width
    return ratio if int(width * ratio) == rows else math.nextafter(ratio, math.inf)
