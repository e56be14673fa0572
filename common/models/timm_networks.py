"""Vision transformers that timm builds by their timm names: LayerScale, registers, rotary embeddings, CLIP's norms.

They are timm's own networks (`VisionTransformer`, `Eva`) of the names with a patch size, such as vit_small_patch14_reg4_dinov2,
vit_base_patch16_dinov3, vit_base_patch16_clip_224. Their features are those of the class token after the last norm, also for
DINOv3, whose timm networks average the patch tokens by default.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import timm
from timm.models import Eva, VisionTransformer, model_entrypoint
from torch import nn

from common.config import NONE
from common.errors import UserError
from common.yaml_text import parse_override
from common.yaml_words import as_value

MODULES = ("timm.models.vision_transformer", "timm.models.eva", "timm.models.deit")
_PATCH = re.compile(r"_patch(\d+)_?")
NORM_EPS = "norm_eps"
"""Keyword argument that timm has not: epsilon of all layer norms, where weights come from a program with another one."""
_OWN_KEYS = {
    "img_size": "data.image_size",
    "in_chans": "data.channels",
    "patch_size": "model.patch_size",
    "drop_path_rate": "model.drop_path",
}


@lru_cache(maxsize=512)
def is_timm_transformer(name: str) -> bool:
    """Return whether timm builds a vision transformer of this name, with or without the tag of its weights."""
    base = name.partition(".")[0]
    known = _PATCH.search(base) is not None and timm.is_model(base)
    return known and model_entrypoint(base).__module__ in MODULES and "distilled" not in base


def patch_of_name(name: str) -> int:
    """Return the side of a patch in pixels, which every such name states."""
    found = _PATCH.search(name)
    assert found is not None, name
    return int(found[1])


def parse_kwargs(kwargs: tuple[str, ...]) -> dict[str, Any]:
    """Return the keyword arguments of `model.kwargs`, each `name=value`, as timm's --model-kwargs takes them."""
    return {name: _value(value) for name, _, value in (each.partition("=") for each in kwargs)}


def format_kwargs(kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return keyword arguments as `model.kwargs` states them."""
    return tuple(f"{name}={_text(value)}" for name, value in kwargs.items())


def kwargs_problems(kwargs: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for keyword arguments that cannot be read or have a key of their own."""
    for each in kwargs:
        name, sign, value = each.partition("=")
        if not (sign and name.isidentifier()):
            yield "kwargs", f"{each!r} is not name=value; set for example model.kwargs=[num_heads=6]"
        elif name in _OWN_KEYS:
            yield "kwargs", f"{each}: remove it and set {_OWN_KEYS[name]}"


def build_timm_transformer(
    name: str,
    kwargs: tuple[str, ...],
    *,
    image_size: int | tuple[int, int],
    num_classes: int,
    in_chans: int,
    patch_size: int | None,
    drop_path: float,
    multi_crop: bool,
) -> Any:
    """Build timm's network `name`; with `multi_crop` for crops of several sizes.

    Of crops of another size than `image_size`, timm resamples the position embedding (bicubic, antialiased) and computes rotary
    embeddings for their grid.

    Raise UserError for arguments that timm refuses.
    """
    arguments = _pooling(name) | parse_kwargs(kwargs)
    norm_eps = arguments.pop(NORM_EPS, None)
    shape: dict[str, Any] = {"img_size": image_size, "num_classes": num_classes, "in_chans": in_chans}
    shape |= {"drop_path_rate": drop_path}
    shape |= {"patch_size": patch_size} if patch_size else {}
    shape |= {"dynamic_img_size": True} if multi_crop else {}
    try:
        model = timm.create_model(name, pretrained=False, **shape, **arguments)
        if norm_eps is not None:
            set_norm_eps(model, float(norm_eps))
    except (TypeError, ValueError, AssertionError, KeyError, RuntimeError) as error:
        raise UserError(
            f"model.kwargs = {list(kwargs)}: timm cannot build {name} with them ({' '.join(str(error).split())}); correct them"
        ) from error
    assert isinstance(model, VisionTransformer | Eva), name
    model.timm_kwargs = _pooling(name) | parse_kwargs(kwargs)
    return model


def set_norm_eps(model: nn.Module, eps: float) -> None:
    """Set the epsilon of all layer norms."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


def is_of_timm(model: nn.Module) -> bool:
    """Return whether `build_timm_transformer` built this network."""
    return hasattr(model, "timm_kwargs")


def without_own_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments that timm knows, for an export."""
    return {name: value for name, value in kwargs.items() if name != NORM_EPS}


def _text(value: Any) -> str:
    """Return the text that stands for a value: `none` for no value, in quotes where it is the text itself."""
    if value is None or isinstance(value, bool):
        return NONE if value is None else str(value).lower()
    return f"'{value}'" if isinstance(value, str) and value.lower() == NONE else str(value)


def _value(text: str) -> Any:
    """Return the value that YAML reads, with 1e-5 as a number and `none` as no value, as in the other keys of a recipe."""
    return None if text.strip().lower() == NONE else as_value(parse_override(text))


def _pooling(name: str) -> dict[str, Any]:
    """Return the argument that selects the class token of DINOv3, as its program does."""
    return {"global_pool": "token"} if "dinov3" in name else {}
