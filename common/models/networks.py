"""The `model` section of a recipe, and the builder of its network.

`timm.create_model("vit_small", stem="conv", patch_size=8, img_size=224)` builds the same network as `build_network`. The sizes
are defined in one module per family: vision transformers, VOLO, RegNetY.
"""

from collections.abc import Iterator
from typing import Annotated, Any, TypeAlias

import timm
from pydantic import Field
from timm.models import Eva, VisionTransformer

from common.config import Config
from common.config_messages import Otherwise
from common.errors import UserError
from common.models import vision_transformer as vision_transformer
from common.models.architectures import ARCHITECTURES, Architecture
from common.models.feed_forward import FEED_FORWARDS
from common.models.regnet import RegNetY
from common.models.stem_registry import stem_problems, unknown_name
from common.models.timm_networks import build_timm_transformer, is_timm_transformer, kwargs_problems, patch_of_name
from common.models.volo import Volo
from common.sizes import height_and_width

__all__ = ["ARCHITECTURES", "OF_INIT", "Architecture", "ModelConfig", "Network", "build_network"]

Network: TypeAlias = VisionTransformer | Eva | Volo | RegNetY
OF_INIT = "init"
"""Name that stands for the network of the weights `init`; `common.models.init_network` replaces it."""


_Rate = Annotated[float, Field(ge=0, lt=1), Otherwise("is not a rate; set a number from 0 to below 1, for example 0.1")]


class ModelConfig(Config):
    """Network: architecture, stem, patch size, feed-forward block."""

    name: str = "vit_small"
    """Architecture: vit_tiny, vit_small, vit_base, deit_small, vit_p_1gf (4gf, 18gf, 36gf), vit_c_1gf (likewise), volo_d1,
    regnety_1gf (4gf, 16gf); for small images vit_mini, vit_micro, vit_compact, vit_p_mini (micro), vit_c_mini (micro), volo_mini,
    regnety_mini; or a timm name of a vision transformer: vit_small_patch14_reg4_dinov2, vit_base_patch16_dinov3 ... init: the
    network of the weights `init`."""
    patch_size: int | None = None
    """Side of a patch in pixels; none: that of published weights `init`, otherwise the architecture's default (16; VOLO 8; small
    ones 4, volo_mini 2; the one in a timm name). RegNetY has none."""
    stem: str | None = None
    """Stem, by its name in the papers' tables: patchify, conv, 3Conv+3BN+1Proj ...; none: the architecture's default."""
    stem_strides: tuple[int, ...] | None = None
    """Strides of the stem's convolutions, then of its projection; their product is the patch size. None: 2,1,..1,patch/2."""
    ffn: str = "mlp"
    """Feed-forward block (table 5 of Scaled ReLU): mlp; no_norm, without its LayerNorm; mlp_relu, ReLU instead of GELU;
    conv1d_bn, Conv1d + BN + GELU twice; conv1d, the same without BN."""
    kwargs: tuple[str, ...] = ()
    """Keyword arguments of timm's network, each name=value, for a timm name: [embed_dim=192, num_heads=3]. `name=init` writes those
    in which the weights differ from the network of that name."""
    drop_path: _Rate = 0.1
    """Stochastic depth rate of the last block, increasing linearly from 0 at the first (in DINO, for the student only). In RegNetY
    it increases stage by stage; VOLO's outlookers and class-attention blocks have none, as published."""

    def patch(self) -> int | None:
        """Return the side of a patch in pixels, configured or the architecture's default; None if the network has no patches."""
        if self.patch_size or self.name == OF_INIT:
            return self.patch_size
        return patch_of_name(self.name) if is_timm_transformer(self.name) else ARCHITECTURES[self.name].patch_size

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (field, message) for every invalid value."""
        if self.ffn not in FEED_FORWARDS:
            yield "ffn", unknown_name(self.ffn, FEED_FORWARDS)
        yield from kwargs_problems(self.kwargs)
        if self.name not in ARCHITECTURES:
            yield from self._problems_of_timm_network()
            return
        if self.kwargs:
            yield (
                "kwargs",
                f"{list(self.kwargs)} are for networks with a timm name; remove them, or set model.name to one",
            )
        architecture = ARCHITECTURES[self.name]
        if architecture.stem is None:
            yield from self._problems_of_fixed_network()
        elif self.patch_size is not None and self.patch_size < 1:
            yield "patch_size", f"{self.patch_size} is not a size; set a positive number of pixels, for example 16"
        else:
            patch = self.patch_size or architecture.patch_size
            assert patch is not None, "a network with a configurable stem has patches"
            yield from stem_problems(self.stem or architecture.stem, self.stem_strides, patch)

    def _problems_of_timm_network(self) -> Iterator[tuple[str, str]]:
        """Yield the problems of a timm name, or of the name that stands for the network of the weights."""
        if self.name != OF_INIT and not is_timm_transformer(self.name):
            yield "name", unknown_name(self.name, (*ARCHITECTURES, OF_INIT))
            return
        if self.patch_size is not None and self.patch_size < 1:
            yield "patch_size", f"{self.patch_size} is not a size; set a positive number of pixels, for example 16"
        for field, default in (("stem", None), ("stem_strides", None), ("ffn", "mlp")):
            value = getattr(self, field)
            if self.name != OF_INIT and value != default and (field != "ffn" or value in FEED_FORWARDS):
                yield (
                    field,
                    f"{value!r} is not supported by {self.name}, a network of timm; set model.{field}={default or 'none'}, or"
                    " choose a network of this project, such as vit_small",
                )

    def _problems_of_fixed_network(self) -> Iterator[tuple[str, str]]:
        """Yield every option that a network with a fixed stem, no patches and no feed-forward blocks does not have."""
        for field, default in (("patch_size", None), ("stem", None), ("stem_strides", None), ("ffn", "mlp")):
            value = getattr(self, field)
            if value != default and (field != "ffn" or value in FEED_FORWARDS):
                yield (
                    field,
                    f"{value!r} is not supported by {self.name}, a convolutional network with a fixed stem, no patches and no"
                    f" feed-forward blocks; set model.{field}={default or 'none'}, or choose a vision transformer",
                )


def build_network(
    config: ModelConfig,
    *,
    image_size: int | tuple[int, int],
    num_classes: int,
    in_chans: int = 3,
    multi_crop: bool = False,
) -> Network:
    """Build the network of a recipe.

    `num_classes=0` builds no classifier: `forward` then returns the class token after the last norm (RegNetY: the pooled last
    features). `in_chans` is the number of channels of the images.
    `multi_crop=True` accepts crops of any multiple of the patch size and resamples the position embedding for them as DINO
    does (`multi_crop`). Weights are drawn from torch's global generator: seed it first.

    Raise UserError for an image size that the network does not accept, and for `multi_crop` with VOLO.
    """
    if config.name == OF_INIT:
        raise UserError(
            "model.name: init stands for the network of the weights; set init to weights, or name a network"
        )
    if config.name not in ARCHITECTURES:
        return _build_of_timm(
            config, image_size=image_size, num_classes=num_classes, in_chans=in_chans, multi_crop=multi_crop
        )
    architecture = ARCHITECTURES[config.name]
    if multi_crop and not architecture.dynamic_img_size:
        supported = ", ".join(name for name, other in ARCHITECTURES.items() if other.dynamic_img_size)
        raise UserError(
            f"model.name: {config.name} only accepts images of the size it is built for, but DINO's local views are smaller than"
            f" its global views; pre-train one of {supported}, or train {config.name} with labels"
        )
    arguments: dict[str, Any] = {
        "img_size": image_size,
        "num_classes": num_classes,
        "in_chans": in_chans,
        "drop_path_rate": config.drop_path,
    }
    if architecture.stem is not None:
        arguments |= {
            "patch_size": config.patch_size,
            "stem": config.stem,
            "stem_strides": config.stem_strides,
            "ffn": config.ffn,
        }
    if multi_crop and architecture.stem is not None:
        arguments["multi_crop"] = True
    model: Network = timm.create_model(config.name, **arguments)
    return model


def _build_of_timm(
    config: ModelConfig, *, image_size: int | tuple[int, int], num_classes: int, in_chans: int, multi_crop: bool
) -> Network:
    """Build a network with a timm name; raise UserError unless patches tile the image."""
    patch = config.patch()
    assert patch is not None, "every timm name states it"
    for side in height_and_width(image_size):
        if side % patch or side < patch:
            below = max(side // patch, 1) * patch
            raise UserError(
                f"data.image_size: {side} is not a multiple of the patch size {patch} of {config.name};"
                f" set {below} or {below + patch}"
            )
    network: Network = build_timm_transformer(
        config.name,
        config.kwargs,
        image_size=image_size,
        num_classes=num_classes,
        in_chans=in_chans,
        patch_size=config.patch_size,
        drop_path=config.drop_path,
        multi_crop=multi_crop,
    )
    return network
