"""Owns the registry: every name of a network, with what it stands for, here and with timm.

A family of networks registers its sizes by `register`. timm looks for a dictionary `default_cfgs` in the module of a
registered function, so each family's module has one of its own and hands it over.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

Entry = Callable[..., nn.Module]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Hold what a registered name stands for when nothing else is asked."""

    image_size: int
    """Side of the image, pixels."""
    patch_size: int | None = None
    """Side of a patch, pixels; none: the network has no patches, no stem and no feed-forward blocks to choose."""
    stem: str | None = None
    """Name of the stem in the papers' tables; none where there is nothing to choose."""
    any_size: bool = True
    """Whether one network can take images of several sizes, as DINO's local views need."""


ARCHITECTURES: dict[str, Architecture] = {}


def register(
    default_cfgs: dict[str, Any],
    architecture: Architecture,
    *,
    first_convolution: str,
    classifier: str | tuple[str, ...] = "head",
    fixed_size: bool = True,
) -> Callable[[Entry], Entry]:
    """Return a decorator that registers a size under its function's name, here and with timm.

    `default_cfgs` is the dictionary of that name in the function's module. `fixed_size` says that the network is built
    for one image size. `first_convolution` and `classifier` are names of layers, for timm.
    """

    def decorate(entry: Entry) -> Entry:
        ARCHITECTURES[entry.__name__] = architecture
        shape = {"input_size": (3, architecture.image_size, architecture.image_size), "fixed_input_size": fixed_size}
        layers = {"first_conv": first_convolution, "classifier": classifier}
        default_cfgs.update(generate_default_cfgs({entry.__name__: {**shape, **layers}}))
        registered: Entry = register_model(entry)
        return registered

    return decorate
