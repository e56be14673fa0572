"""Owns the networks: sizes of vision transformers, registered as timm architectures, with any stem in front.

`timm.create_model("vit_small", stem="conv", patch_size=8, img_size=224)` builds what `build_network` builds. Every size
is a function of literal numbers. The class token is pooled, the position embedding is learned and absolute; norms stand
before the attentions and the MLPs (eps 1e-6) and once after the last block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import timm
from timm.models import VisionTransformer, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import checkpoint_filter_fn

from common.errors import UserError
from common.models.initialisation import initialise_deit, initialise_narrow, initialise_xiao
from common.models.stem_grammar import parse_stem, stem_problems, unknown_name
from common.models.stems import build_stem_layer

__all__ = ["ARCHITECTURES", "Architecture", "ModelConfig", "build_network"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Hold what a registered name stands for when nothing else is asked."""

    image_size: int
    patch_size: int
    stem: str
    initialise: Callable[[VisionTransformer], None]


ARCHITECTURES: dict[str, Architecture] = {}
default_cfgs: dict[str, Any] = {}  # timm reads this name from the module of a registered architecture


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Choose the network: its size, its stem, its patches."""

    name: str = "vit_small"
    """Architecture: vit_tiny, vit_small, vit_base, deit_small, vit_p_1gf (4gf, 18gf, 36gf), vit_c_1gf (likewise); for
    small images vit_mini, vit_micro, vit_compact."""
    patch_size: int | None = None
    """Side of a patch, pixels; none: the architecture's own (16; 4 for the small ones)."""
    stem: str | None = None
    """Stem, by the name of the papers' tables: patchify, conv, 3Conv+3BN+1Proj ...; none: the architecture's own."""
    stem_strides: tuple[int, ...] | None = None
    """Strides of the stem's convolutions, then of its projection; their product is the patch. None: 2,1,..1,patch/2."""
    drop_path: float = 0.1
    """Rate of stochastic depth at the last block, rising linearly from 0 at the first (the student's alone in DINO)."""

    def patch(self) -> int:
        """Return the side of a patch, pixels: the one asked for, or the architecture's own."""
        return self.patch_size or ARCHITECTURES[self.name].patch_size

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for every value that cannot be built."""
        if self.name not in ARCHITECTURES:
            yield "name", unknown_name(self.name, tuple(ARCHITECTURES))
            return
        architecture = ARCHITECTURES[self.name]
        if self.patch_size is not None and self.patch_size < 1:
            yield "patch_size", f"{self.patch_size} is no size; give a positive number of pixels, for example 16"
            return
        yield from stem_problems(self.stem or architecture.stem, self.stem_strides, self.patch())
        if not 0 <= self.drop_path < 1:
            yield "drop_path", f"{self.drop_path} is no rate; give a number from 0 to below 1, for example 0.1"


def build_network(
    config: ModelConfig, *, image_size: int | tuple[int, int], num_classes: int, dynamic: bool = False
) -> VisionTransformer:
    """Build the network of a recipe.

    `num_classes=0` leaves the classifier out: `forward` then returns the class token after the last norm.
    `dynamic=True` takes any image size that is a multiple of the patch and interpolates the position embedding
    (bicubic), as DINO's local views need. Weights are drawn from torch's global generator: seed it first.

    Errors: whatever `ModelConfig.problems` names first, or an image size that patches do not tile.
    """
    for field, message in config.problems():
        raise UserError(f"model.{field}: {message}")
    model = timm.create_model(
        config.name,
        patch_size=config.patch_size,
        stem=config.stem,
        stem_strides=config.stem_strides,
        img_size=image_size,
        num_classes=num_classes,
        drop_path_rate=config.drop_path,
        dynamic_img_size=dynamic,
    )
    assert isinstance(model, VisionTransformer)
    return model


def _vision_transformer(
    name: str, arguments: dict[str, Any], *, width: int, depth: int, heads: int, mlp_ratio: float = 4.0
) -> VisionTransformer:
    """Build a transformer of this size from timm's keyword arguments, with `stem` and `stem_strides` among them."""
    architecture = ARCHITECTURES[name]
    options = {"patch_size": architecture.patch_size, "stem": architecture.stem, "stem_strides": None, **arguments}
    strides = options.pop("stem_strides")
    stem = options.pop("stem")
    size = {"embed_dim": width, "depth": depth, "num_heads": heads, "mlp_ratio": mlp_ratio}

    def construct(**kwargs: Any) -> VisionTransformer:
        """Construct and initialise, before timm loads any weights."""
        model = VisionTransformer(
            **{**size, **kwargs}, embed_layer=build_stem_layer(stem, None if strides is None else tuple(strides))
        )
        architecture.initialise(model)
        return model

    model: VisionTransformer = build_model_with_cfg(
        construct,
        name,
        options.pop("pretrained", False),
        pretrained_filter_fn=checkpoint_filter_fn,
        feature_cfg={"out_indices": options.pop("out_indices", 3), "feature_cls": "getter"},
        **options,
    )
    return model


Entry = Callable[..., VisionTransformer]


def _architecture(
    *,
    image_size: int = 224,
    patch_size: int = 16,
    stem: str = "patchify",
    initialise: Callable[[VisionTransformer], None] = initialise_deit,
) -> Callable[[Entry], Entry]:
    """Register a size under its function's name, here and with timm."""

    def register(entry: Entry) -> Entry:
        ARCHITECTURES[entry.__name__] = Architecture(
            image_size=image_size, patch_size=patch_size, stem=stem, initialise=initialise
        )
        first_convolution = "patch_embed.conv.0" if parse_stem(stem).kernels else "patch_embed.proj"
        shape = {"input_size": (3, image_size, image_size), "fixed_input_size": True}
        default_cfgs.update(
            generate_default_cfgs({entry.__name__: {**shape, "first_conv": first_convolution, "classifier": "head"}})
        )
        registered: Entry = register_model(entry)
        return registered

    return register


@_architecture()
def vit_tiny(**arguments: Any) -> VisionTransformer:
    """ViT-Ti: 5.7 M parameters at patch 16."""
    return _vision_transformer("vit_tiny", arguments, width=192, depth=12, heads=3)


@_architecture()
def vit_small(**arguments: Any) -> VisionTransformer:
    """ViT-S, the network of DINO ViT-S/16 (DeiT-S without another name): 22 M parameters."""
    return _vision_transformer("vit_small", arguments, width=384, depth=12, heads=6)


@_architecture()
def vit_base(**arguments: Any) -> VisionTransformer:
    """ViT-B: 86.6 M parameters."""
    return _vision_transformer("vit_base", arguments, width=768, depth=12, heads=12)


@_architecture()
def deit_small(**arguments: Any) -> VisionTransformer:
    """DeiT-S without distillation, the network of the Scaled ReLU paper: 22 M parameters, 23 M with the conv stem."""
    return _vision_transformer("deit_small", arguments, width=384, depth=12, heads=6)


@_architecture(initialise=initialise_xiao)
def vit_p_1gf(**arguments: Any) -> VisionTransformer:
    """ViT_P-1GF of Early Convolutions."""
    return _vision_transformer("vit_p_1gf", arguments, width=192, depth=12, heads=3, mlp_ratio=3.0)


@_architecture(initialise=initialise_xiao)
def vit_p_4gf(**arguments: Any) -> VisionTransformer:
    """ViT_P-4GF of Early Convolutions."""
    return _vision_transformer("vit_p_4gf", arguments, width=384, depth=12, heads=6, mlp_ratio=3.0)


@_architecture(initialise=initialise_xiao)
def vit_p_18gf(**arguments: Any) -> VisionTransformer:
    """ViT_P-18GF of Early Convolutions: ViT-B."""
    return _vision_transformer("vit_p_18gf", arguments, width=768, depth=12, heads=12)


@_architecture(initialise=initialise_xiao)
def vit_p_36gf(**arguments: Any) -> VisionTransformer:
    """ViT_P-36GF of Early Convolutions: 14 of ViT-L's 24 blocks."""
    return _vision_transformer("vit_p_36gf", arguments, width=1024, depth=14, heads=16)


@_architecture(stem="vit_c_1gf", initialise=initialise_xiao)
def vit_c_1gf(**arguments: Any) -> VisionTransformer:
    """ViT_C-1GF: one block fewer than ViT_P-1GF, spent on the stem."""
    return _vision_transformer("vit_c_1gf", arguments, width=192, depth=11, heads=3, mlp_ratio=3.0)


@_architecture(stem="vit_c_4gf", initialise=initialise_xiao)
def vit_c_4gf(**arguments: Any) -> VisionTransformer:
    """ViT_C-4GF: one block fewer than ViT_P-4GF, spent on the stem."""
    return _vision_transformer("vit_c_4gf", arguments, width=384, depth=11, heads=6, mlp_ratio=3.0)


@_architecture(stem="vit_c_18gf", initialise=initialise_xiao)
def vit_c_18gf(**arguments: Any) -> VisionTransformer:
    """ViT_C-18GF: one block fewer than ViT_P-18GF, spent on the stem."""
    return _vision_transformer("vit_c_18gf", arguments, width=768, depth=11, heads=12)


@_architecture(stem="vit_c_36gf", initialise=initialise_xiao)
def vit_c_36gf(**arguments: Any) -> VisionTransformer:
    """ViT_C-36GF: one block fewer than ViT_P-36GF, spent on the stem."""
    return _vision_transformer("vit_c_36gf", arguments, width=1024, depth=13, heads=16)


@_architecture(image_size=16, patch_size=4, initialise=initialise_narrow)
def vit_mini(**arguments: Any) -> VisionTransformer:
    """A size of our own for digits of 16 px: 0.2 M parameters."""
    return _vision_transformer("vit_mini", arguments, width=64, depth=4, heads=2)


@_architecture(image_size=32, patch_size=4)
def vit_micro(**arguments: Any) -> VisionTransformer:
    """A size of our own for images of 32 px and little time."""
    return _vision_transformer("vit_micro", arguments, width=128, depth=6, heads=4)


@_architecture(image_size=32, patch_size=4)
def vit_compact(**arguments: Any) -> VisionTransformer:
    """A size of our own for CIFAR: 32 px, 64 tokens."""
    return _vision_transformer("vit_compact", arguments, width=192, depth=9, heads=3)
