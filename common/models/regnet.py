"""RegNetY, the convolutional baseline of Early Convolutions: "a SOTA CNN that is easy to optimize".

Networks of the design space of Radosavovic et al. 2020, through timm: a stem of one 3x3 convolution, four stages of
grouped bottlenecks with squeeze-and-excitation, global average pooling, a linear classifier. The stem is fixed.

Early Convolutions reports 1.0, 4.1 and 15.5 G MACs with 9.6, 22.4 and 72.3 M parameters for its RegNetY, taken from "Fast and
Accurate Model Scaling" (Dollar et al. 2021), which does not give the numbers needed to build them. They are replaced by the
published 4.0GF and 16GF of the design space and, for 1 GF, which was never published, by a custom design.
"""

from collections.abc import Callable
from typing import Any

from timm.layers import to_2tuple
from timm.models import build_model_with_cfg
from timm.models.regnet import RegNet, RegNetCfg
from torch import Tensor

from common.models.architectures import ARCHITECTURES, Architecture, Entrypoint, register
from common.models.batch_norm import check_batch

default_cfgs: dict[str, Any] = {}
SMALL_IMAGE = 64
"""Side in pixels below which the stem does not halve the image: five halvings would reduce 32 px to a single position."""


class RegNetY(RegNet):  # type: ignore[misc]
    """Classify images (B, 3, H, W) of any size; with `num_classes=0`, return the pooled features (B, D).

    Block j of `depth` has width w0 + wa * j before it is rounded to powers of `wm`, which yields the four stages; see section
    3.3 of the design space's paper. If the shorter side of the image is below 64 px, the stem has stride 1 instead of 2.
    """

    def __init__(
        self,
        *,
        depth: int,
        w0: int,
        wa: float,
        wm: float,
        group_size: int,
        img_size: int | tuple[int, int],
        **options: Any,
    ) -> None:
        design: dict[str, int | float] = {"depth": depth, "w0": w0, "wa": wa, "wm": wm, "group_size": group_size}
        super().__init__(RegNetCfg(**design, se_ratio=0.25), **options)
        self.design = design
        self.img_size: tuple[int, int] = to_2tuple(img_size)
        self.halves_image = min(self.img_size) >= SMALL_IMAGE
        if not self.halves_image:
            self.stem.conv.stride = (1, 1)
            for stage in self.feature_info:
                stage["reduction"] //= 2

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, or the pooled features. Raise UserError in training on one image whose last features have one position."""
        if self.training:
            check_batch(images, self.feature_info[-1]["reduction"])
        output: Tensor = super().forward(images)
        return output

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay: none, as there are no embeddings."""
        return set()


def _regnety(name: str, arguments: dict[str, Any], **design: int | float) -> RegNetY:
    """Build a RegNetY of this design from timm's keyword arguments, including `img_size`."""
    options = {"img_size": ARCHITECTURES[name].image_size, **arguments}
    model: RegNetY = build_model_with_cfg(RegNetY, name, options.pop("pretrained", False), **{**design, **options})
    return model


def _register(*, image_size: int = 224) -> Callable[[Entrypoint], Entrypoint]:
    """Register a size under its function's name, in this registry and in timm's."""
    return register(
        default_cfgs,
        Architecture(image_size=image_size),
        first_conv="stem.conv",
        classifier="head.fc",
        fixed_size=False,
    )


@_register()
def regnety_1gf(**arguments: Any) -> RegNetY:
    """Custom RegNetY for the 1 GF of Early Convolutions: 9.62 M parameters, 1.01 G MACs, 6.24 M activations.

    None is published (the nearest are 800MF with 6.3 M parameters and 1.6GF with 11.2 M). This is the member of the design
    space, with w0 a multiple of 8 and wa an integer, whose complexity matches the three published values: 1.0, 9.6 and 6.2.
    """
    return _regnety("regnety_1gf", arguments, depth=22, w0=48, wa=23.0, wm=2.42, group_size=16)


@_register()
def regnety_4gf(**arguments: Any) -> RegNetY:
    """RegNetY-4.0GF as published, timm's regnety_040: 20.65 M parameters, 3.97 G MACs, 12.29 M activations."""
    return _regnety("regnety_4gf", arguments, depth=22, w0=96, wa=31.41, wm=2.24, group_size=64)


@_register()
def regnety_16gf(**arguments: Any) -> RegNetY:
    """RegNetY-16GF as published, timm's regnety_160: 83.59 M parameters, 15.91 G MACs, 23.04 M activations."""
    return _regnety("regnety_16gf", arguments, depth=18, w0=200, wa=106.23, wm=2.48, group_size=112)


@_register(image_size=32)
def regnety_mini(**arguments: Any) -> RegNetY:
    """Custom RegNetY for images of 12 to 32 px: 0.2 M parameters, four stages of 16, 32, 64 and 128 channels."""
    return _regnety("regnety_mini", arguments, depth=7, w0=16, wa=20.0, wm=2.0, group_size=8)
