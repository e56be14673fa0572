"""Registry of network architectures, shared with timm.

Each family of networks registers its sizes with `register`. timm looks up a dictionary `default_cfgs` in the module of a
registered function, so each family's module defines one and passes it to `register`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from timm.models import generate_default_cfgs, register_model
from torch import nn

Entrypoint = Callable[..., nn.Module]
IMPORT_TAG = "import_common_models"
"""Tag of the names in exports that timm knows only after this import. timm ignores it, but its error and that of transformers show
it: `Unknown model (vit_mini.import_common_models)`."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Defaults of a registered architecture."""

    image_size: int
    """Side of the image in pixels."""
    patch_size: int | None = None
    """Side of a patch in pixels; None if the network has no patches, no configurable stem and no feed-forward blocks."""
    stem: str | None = None
    """Name of the stem in the papers' tables; None if the stem is fixed."""
    dynamic_img_size: bool = True
    """Whether one network accepts images of several sizes, as DINO's local views require."""


ARCHITECTURES: dict[str, Architecture] = {}


def register(
    default_cfgs: dict[str, Any],
    architecture: Architecture,
    *,
    first_conv: str,
    classifier: str | tuple[str, ...] = "head",
    fixed_size: bool = True,
) -> Callable[[Entrypoint], Entrypoint]:
    """Return a decorator that registers a size under its function's name, in this registry and in timm's.

    `default_cfgs` is the dictionary of that name in the function's module. `fixed_size` is timm's `fixed_input_size`: the
    network is built for one image size. `first_conv` and `classifier` are layer names in timm's config.
    """

    def decorate(entrypoint: Entrypoint) -> Entrypoint:
        ARCHITECTURES[entrypoint.__name__] = architecture
        shape = {"input_size": (3, architecture.image_size, architecture.image_size), "fixed_input_size": fixed_size}
        layers = {"first_conv": first_conv, "classifier": classifier}
        names = (entrypoint.__name__, f"{entrypoint.__name__}.{IMPORT_TAG}")
        default_cfgs.update(generate_default_cfgs({name: {**shape, **layers} for name in names}))
        registered: Entrypoint = register_model(entrypoint)
        return registered

    return decorate
