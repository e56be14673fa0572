"""Owns the names of the stems: one grammar, as the papers' tables print them, and what each name describes.

    [kConv [+kBN] [+kReLU | +kGELU] +] 1Proj [+1BN] [+1ReLU | +1GELU]

`3Conv+3BN+3ReLU+1Proj` (alias `conv`) is the stem of VOLO (Scaled ReLU, Algorithm 1): a 7x7 and then 3x3 convolutions
of 64 channels, without bias, each followed by what the name says, then a projection with kernel = stride and a bias.
`1Proj` (alias `patchify`) has no convolution. The stems of Early Convolutions (`vit_c_1gf` ...) are rows of the same
description.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from common.errors import UserError

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
    """Describe a stem: convolutions, what follows each of them, and what follows the projection."""

    name: str
    kernels: tuple[int, ...]
    channels: tuple[int, ...]
    norm: bool
    activation: str | None
    projection_norm: bool = False
    projection_activation: str | None = None
    fixed_strides: tuple[int, ...] | None = None
    """Strides of the published stem, the projection's last; None where they follow from the patch size."""
    xiao_initialisation: bool = False
    """Initialise as Early Convolutions does; otherwise as PyTorch does."""

    def strides(self, patch_size: int) -> tuple[int, ...]:
        """Return the strides used when none are given: (2, 1, ..., 1, patch / 2) unless the published ones are fixed.

        At patch 2 the projection is left with stride 1: (2, 1, ..., 1, 1). The projection alone takes an odd patch.
        """
        if self.fixed_strides is not None:
            return self.fixed_strides
        if not self.kernels:
            return (patch_size,)
        first = 2 if patch_size % 2 == 0 else 1
        return (first, *[1] * (len(self.kernels) - 1), patch_size // first)


def _xiao_stem(name: str, channels: tuple[int, ...], strides: tuple[int, ...]) -> StemSpec:
    """Describe a stem of Early Convolutions: 3x3 convolutions, BN and ReLU, then a bare 1x1 projection."""
    return StemSpec(
        name=name,
        kernels=(3,) * len(channels),
        channels=channels,
        norm=True,
        activation="ReLU",
        fixed_strides=(*strides, 1),
        xiao_initialisation=True,
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
    """Word the refusal of an unknown name: the value, the nearest choice if one is near, and all choices."""
    folded = {choice.lower(): choice for choice in choices}
    near = get_close_matches(value.lower(), folded, n=1, cutoff=0.5)
    nearest = f", the nearest is {folded[near[0]]!r}" if near else ""
    return f"{value!r} is unknown{nearest}; choose one of {', '.join(choices)}"


def parse_stem(name: str) -> StemSpec:
    """Return the stem that a name of the papers' tables, or of the grammar, stands for.

    Errors: a name outside the grammar, with the choices and the nearest one.
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
    """Yield (field, message) for everything wrong with a stem's name and strides at a patch size."""
    try:
        spec = parse_stem(name)
    except UserError as error:
        yield "stem", str(error).removeprefix("model.stem: ")
        return
    used = spec.strides(patch_size) if strides is None else tuple(strides)
    shown = f"[{','.join(map(str, used))}]"
    num_strides, product = len(spec.kernels) + 1, math.prod(used)
    if len(used) != num_strides or min(used) < 1:
        message = f"{shown} does not fit {spec.name}: give {num_strides} positive strides, the projection's last"
        yield "stem_strides", f"{message}, for example [{','.join(map(str, spec.strides(patch_size)))}]"
    elif product != patch_size:
        message = f"{shown} multiplies to {product}, but the patch is {patch_size}: give {num_strides} strides that"
        yield "stem_strides", f"{message} multiply to {patch_size}, or set model.patch_size={product}"
