"""Stem names as in the papers' tables: the grammar, and the specification that each name describes.

    [kConv [+kBN] [+kReLU | +kGELU] +] 1Proj [+1BN] [+1ReLU | +1GELU]

`3Conv+3BN+3ReLU+1Proj` (alias `conv`) is the stem of VOLO (Scaled ReLU, Algorithm 1): a 7x7 and then 3x3 convolutions with
64 channels and no bias, each followed by the named norm and activation, then a projection with kernel = stride and a bias.
`1Proj` (alias `patchify`) has no convolution before the projection. The stems of Early Convolutions (`vit_c_1gf` ...) have
specifications of the same type.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from common.errors import UserError, did_you_mean

ALIASES = {"patchify": "1Proj", "conv": "3Conv+3BN+3ReLU+1Proj"}
PAPER_STEMS = (
    "1Proj",
    "1Proj+1ReLU",
    "1Proj+1BN+1ReLU",
    "3Conv+1Proj",
    "3Conv+1Proj+1ReLU",
    "3Conv+3BN+1Proj",
    "3Conv+3ReLU+1Proj",
    "3Conv+3BN+3ReLU+1Proj",
    "3Conv+3BN+3GELU+1Proj",
)
GRAMMAR = "[kConv[+kBN][+kReLU|+kGELU]+]1Proj[+1BN][+1ReLU|+1GELU]"
_NAME = re.compile(
    r"(?:(?P<count>[1-9])Conv(?P<norm>\+(?P=count)BN)?(?:\+(?P=count)(?P<activation>ReLU|GELU))?\+)?"
    r"1Proj(?P<projection_norm>\+1BN)?(?:\+1(?P<projection_activation>ReLU|GELU))?"
)


@dataclass(frozen=True, kw_only=True)
class StemSpec:
    """Specification of a stem: its convolutions, and the norm and activation after each of them and after the projection."""

    name: str
    kernels: tuple[int, ...]
    channels: tuple[int, ...]
    norm: bool
    activation: str | None
    projection_norm: bool = False
    projection_activation: str | None = None
    fixed_strides: tuple[int, ...] | None = None
    """Strides of a published stem, the projection's last; None if they depend on the patch size."""
    xiao_initialization: bool = False
    """Whether to initialize as in Early Convolutions instead of with PyTorch's defaults."""

    def strides(self, patch_size: int) -> tuple[int, ...]:
        """Return the default strides: (2, 1, ..., 1, patch / 2) unless the stem has fixed published strides.

        At patch size 2 the projection has stride 1: (2, 1, ..., 1, 1). At an odd one only the projection has a stride above 1.
        """
        if self.fixed_strides is not None:
            return self.fixed_strides
        if not self.kernels:
            return (patch_size,)
        first = 2 if patch_size % 2 == 0 else 1
        return (first, *[1] * (len(self.kernels) - 1), patch_size // first)


def _xiao_stem(name: str, channels: tuple[int, ...], strides: tuple[int, ...]) -> StemSpec:
    """Return the specification of an Early Convolutions stem: 3x3 convolutions with BN and ReLU, then a 1x1 projection."""
    return StemSpec(
        name=name,
        kernels=(3,) * len(channels),
        channels=channels,
        norm=True,
        activation="ReLU",
        fixed_strides=(*strides, 1),
        xiao_initialization=True,
    )


XIAO_STEMS = {
    spec.name: spec
    for spec in (
        _xiao_stem("vit_c_1gf", (24, 48, 96, 192), (2, 2, 2, 2)),
        _xiao_stem("vit_c_4gf", (48, 96, 192, 384), (2, 2, 2, 2)),
        _xiao_stem("vit_c_18gf", (64, 128, 128, 256, 256, 512), (2, 2, 1, 2, 1, 2)),
        _xiao_stem("vit_c_mini", (16, 32, 64), (2, 2, 1)),
        _xiao_stem("vit_c_micro", (32, 64, 128), (2, 2, 1)),
        _xiao_stem("vit_c_36gf", (64, 128, 128, 256, 256, 512), (2, 2, 1, 2, 1, 2)),
    )
}
STEM_NAMES = (*ALIASES, *PAPER_STEMS, *XIAO_STEMS)


def unknown_name(value: str, choices: tuple[str, ...]) -> str:
    """Return the error message for an unknown name: the value, the nearest choice, if any is close, and all choices."""
    return f"{value!r} is unknown.{did_you_mean(value, choices)} Choose one of {', '.join(choices)}"


def parse_stem(name: str) -> StemSpec:
    """Return the specification of a stem by its name in the papers' tables or in the grammar.

    Raise UserError for any other name, with the choices and the nearest one.
    """
    if name in XIAO_STEMS:
        return XIAO_STEMS[name]
    full_name = ALIASES.get(name, name)
    match = _NAME.fullmatch(full_name)
    if match is None:
        raise UserError(f"model.stem: {unknown_name(name, STEM_NAMES)}, or any {GRAMMAR}")
    count = int(match["count"] or 0)
    return StemSpec(
        name=full_name,
        kernels=(7, *[3] * (count - 1)) if count else (),
        channels=(64,) * count,
        norm=match["norm"] is not None,
        activation=match["activation"],
        projection_norm=match["projection_norm"] is not None,
        projection_activation=match["projection_activation"],
    )


def stem_problems(name: str, strides: tuple[int, ...] | None, patch_size: int) -> Iterator[tuple[str, str]]:
    """Yield (field, message) for every problem with a stem's name and strides at a patch size."""
    try:
        spec = parse_stem(name)
    except UserError as error:
        yield "stem", str(error).removeprefix("model.stem: ")
        return
    strides = spec.strides(patch_size) if strides is None else tuple(strides)
    text = f"[{','.join(map(str, strides))}]"
    num_strides, product = len(spec.kernels) + 1, math.prod(strides)
    if len(strides) != num_strides or min(strides) < 1:
        message = f"{text} does not fit {spec.name}: set {num_strides} positive strides, the projection's last"
        yield "stem_strides", f"{message}, for example [{','.join(map(str, spec.strides(patch_size)))}]"
    elif product != patch_size:
        message = (
            f"{text} has the product {product}, but the patch size is {patch_size}: set {num_strides} strides with the"
        )
        yield "stem_strides", f"{message} product {patch_size}, or set model.patch_size={product}"
