"""Vision transformers of all sizes, with any stem and any feed-forward design.

Pre-norm blocks (LayerNorm, eps 1e-6) with a final norm, a class token that is pooled, and a learned absolute position embedding.
Each size is a function of literal numbers.
"""

from collections.abc import Callable
from typing import Any

from timm.models import VisionTransformer, build_model_with_cfg
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import nn

from common.models.architectures import ARCHITECTURES, Architecture, Entrypoint, register
from common.models.feed_forward import set_feed_forward
from common.models.initialization import initialize_deit, initialize_narrow, initialize_xiao
from common.models.multi_crop import MultiCropVisionTransformer
from common.models.stem import build_stem_layer
from common.models.stem_registry import parse_stem

default_cfgs: dict[str, Any] = {}


def _vision_transformer(
    name: str,
    arguments: dict[str, Any],
    *,
    width: int,
    depth: int,
    heads: int,
    mlp_ratio: float = 4.0,
    initialize: Callable[[nn.Module], None] = initialize_deit,
) -> VisionTransformer:
    """Build a transformer of this size from timm's keyword arguments, including `stem`, `stem_strides` and `ffn`.

    `multi_crop=True` builds it for crops of several sizes, as in DINO.
    """
    architecture = ARCHITECTURES[name]
    options = {"patch_size": architecture.patch_size, "stem": architecture.stem, "stem_strides": None, **arguments}
    strides = options.pop("stem_strides")
    stem = options.pop("stem")
    ffn = options.pop("ffn", "mlp")
    multi_crop = options.pop("multi_crop", False)
    network = MultiCropVisionTransformer if multi_crop else VisionTransformer
    if multi_crop:
        options["dynamic_img_size"] = True
    size = {"embed_dim": width, "depth": depth, "num_heads": heads, "mlp_ratio": mlp_ratio}

    def construct(**kwargs: Any) -> VisionTransformer:
        """Construct and initialize the network, before timm loads any weights."""
        model = network(
            **{**size, **kwargs}, embed_layer=build_stem_layer(stem, None if strides is None else tuple(strides))
        )
        initialize(model)
        set_feed_forward(model.blocks, ffn)
        model.ffn = ffn
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


def _register(
    *, image_size: int = 224, patch_size: int = 16, stem: str = "patchify"
) -> Callable[[Entrypoint], Entrypoint]:
    """Register a size under its function's name, in this registry and in timm's."""
    return register(
        default_cfgs,
        Architecture(image_size=image_size, patch_size=patch_size, stem=stem),
        first_conv="patch_embed.conv.0" if parse_stem(stem).kernels else "patch_embed.proj",
    )


@_register()
def vit_tiny(**arguments: Any) -> VisionTransformer:
    """ViT-Ti: 5.7 M parameters at patch 16."""
    return _vision_transformer("vit_tiny", arguments, width=192, depth=12, heads=3)


@_register()
def vit_small(**arguments: Any) -> VisionTransformer:
    """ViT-S, the network of DINO ViT-S/16 (the same as DeiT-S): 22 M parameters."""
    return _vision_transformer("vit_small", arguments, width=384, depth=12, heads=6)


@_register()
def vit_base(**arguments: Any) -> VisionTransformer:
    """ViT-B: 86.6 M parameters."""
    return _vision_transformer("vit_base", arguments, width=768, depth=12, heads=12)


@_register()
def deit_small(**arguments: Any) -> VisionTransformer:
    """DeiT-S without distillation, the network of the Scaled ReLU paper: 22 M parameters, 23 M with the conv stem."""
    return _vision_transformer("deit_small", arguments, width=384, depth=12, heads=6)


@_register()
def vit_p_1gf(**arguments: Any) -> VisionTransformer:
    """ViT_P-1GF of Early Convolutions."""
    return _vision_transformer(
        "vit_p_1gf", arguments, width=192, depth=12, heads=3, mlp_ratio=3.0, initialize=initialize_xiao
    )


@_register()
def vit_p_4gf(**arguments: Any) -> VisionTransformer:
    """ViT_P-4GF of Early Convolutions."""
    return _vision_transformer(
        "vit_p_4gf", arguments, width=384, depth=12, heads=6, mlp_ratio=3.0, initialize=initialize_xiao
    )


@_register()
def vit_p_18gf(**arguments: Any) -> VisionTransformer:
    """ViT_P-18GF of Early Convolutions: ViT-B."""
    return _vision_transformer("vit_p_18gf", arguments, width=768, depth=12, heads=12, initialize=initialize_xiao)


@_register()
def vit_p_36gf(**arguments: Any) -> VisionTransformer:
    """ViT_P-36GF of Early Convolutions: 14 of ViT-L's 24 blocks."""
    return _vision_transformer("vit_p_36gf", arguments, width=1024, depth=14, heads=16, initialize=initialize_xiao)


@_register(stem="vit_c_1gf")
def vit_c_1gf(**arguments: Any) -> VisionTransformer:
    """ViT_C-1GF: one block fewer than ViT_P-1GF, replaced by the convolutional stem."""
    return _vision_transformer(
        "vit_c_1gf", arguments, width=192, depth=11, heads=3, mlp_ratio=3.0, initialize=initialize_xiao
    )


@_register(stem="vit_c_4gf")
def vit_c_4gf(**arguments: Any) -> VisionTransformer:
    """ViT_C-4GF: one block fewer than ViT_P-4GF, replaced by the convolutional stem."""
    return _vision_transformer(
        "vit_c_4gf", arguments, width=384, depth=11, heads=6, mlp_ratio=3.0, initialize=initialize_xiao
    )


@_register(stem="vit_c_18gf")
def vit_c_18gf(**arguments: Any) -> VisionTransformer:
    """ViT_C-18GF: one block fewer than ViT_P-18GF, replaced by the convolutional stem."""
    return _vision_transformer("vit_c_18gf", arguments, width=768, depth=11, heads=12, initialize=initialize_xiao)


@_register(stem="vit_c_36gf")
def vit_c_36gf(**arguments: Any) -> VisionTransformer:
    """ViT_C-36GF: one block fewer than ViT_P-36GF, replaced by the convolutional stem."""
    return _vision_transformer("vit_c_36gf", arguments, width=1024, depth=13, heads=16, initialize=initialize_xiao)


@_register(image_size=16, patch_size=4)
def vit_mini(**arguments: Any) -> VisionTransformer:
    """Custom ViT for digits of 16 px: 0.2 M parameters."""
    return _vision_transformer("vit_mini", arguments, width=64, depth=4, heads=2, initialize=initialize_narrow)


@_register(image_size=32, patch_size=4)
def vit_micro(**arguments: Any) -> VisionTransformer:
    """Custom ViT for images of 32 px and short training."""
    return _vision_transformer("vit_micro", arguments, width=128, depth=6, heads=4)


@_register(image_size=32, patch_size=4)
def vit_compact(**arguments: Any) -> VisionTransformer:
    """Custom ViT for CIFAR: 32 px, 64 tokens."""
    return _vision_transformer("vit_compact", arguments, width=192, depth=9, heads=3)


@_register(image_size=16, patch_size=4)
def vit_p_mini(**arguments: Any) -> VisionTransformer:
    """Custom ViT_P for digits: 0.2 M parameters, initialized as Early Convolutions does."""
    return _vision_transformer(
        "vit_p_mini", arguments, width=64, depth=4, heads=2, mlp_ratio=3.0, initialize=initialize_xiao
    )


@_register(image_size=16, patch_size=4, stem="vit_c_mini")
def vit_c_mini(**arguments: Any) -> VisionTransformer:
    """Custom ViT_C for digits: one block fewer than vit_p_mini, replaced by the convolutional stem."""
    return _vision_transformer(
        "vit_c_mini", arguments, width=64, depth=3, heads=2, mlp_ratio=3.0, initialize=initialize_xiao
    )


@_register(image_size=32, patch_size=4)
def vit_p_micro(**arguments: Any) -> VisionTransformer:
    """Custom ViT_P for images of 32 px, initialized as Early Convolutions does."""
    return _vision_transformer(
        "vit_p_micro", arguments, width=128, depth=6, heads=4, mlp_ratio=3.0, initialize=initialize_xiao
    )


@_register(image_size=32, patch_size=4, stem="vit_c_micro")
def vit_c_micro(**arguments: Any) -> VisionTransformer:
    """Custom ViT_C for images of 32 px: one block fewer than vit_p_micro, replaced by the convolutional stem."""
    return _vision_transformer(
        "vit_c_micro", arguments, width=128, depth=5, heads=4, mlp_ratio=3.0, initialize=initialize_xiao
    )
