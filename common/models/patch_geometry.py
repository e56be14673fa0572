"""Image and patch size of weights, from the config beside them: the grid of their position embedding follows from it.

A position embedding of a vision transformer has the shape (1, prefix + patches, D), which does not tell the grid: 16 patches may be
4x4, 2x8 or 8x2.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timm.layers import to_2tuple
from torch import Tensor
from yaml import YAMLError

from common.config import build
from common.errors import UserError
from common.models.networks import ModelConfig
from common.yaml_text import read_yaml

Grid = tuple[int, int]
"""Rows and columns of patches."""
CONFIG_FILE, RECIPE_FILE = "config.json", "config.yaml"


@dataclass(frozen=True, kw_only=True)
class PatchGeometry:
    """Size of the images that weights were trained on, and of their patches, in pixels."""

    image_size: tuple[int, int]
    """Height and width of the images."""
    patch_size: tuple[int, int] | None
    """Height and width of a patch; None if it is not stated. It then equals that of the network that loads the weights."""
    source: str
    """File or model name that states them."""

    def grid(self, patch_size: tuple[int, int]) -> Grid:
        """Return the grid; `patch_size` is the patch of the network that loads the weights."""
        (height, width), (patch_height, patch_width) = self.image_size, self.patch_size or patch_size
        return height // patch_height, width // patch_width


def geometry_of_model(model: Any, source: str) -> PatchGeometry | None:
    """Return the geometry of a network that timm has built, or None if it has no patches of a fixed size."""
    stem = getattr(model, "patch_embed", None)
    image_size, patch_size = _sides(getattr(stem, "img_size", None)), _sides(getattr(stem, "patch_size", None))
    return image_size and PatchGeometry(image_size=image_size, patch_size=patch_size, source=source)


def geometry_of_config(weights: Path) -> PatchGeometry | None:
    """Return the geometry that config.json beside a file of weights states, or None.

    It is an export of this project (`network`), a model of timm (`model_args`, `pretrained_cfg`) or one of transformers
    (`image_size`, `patch_size`). Raise OSError if the file exists and cannot be read.
    """
    path, config = weights.with_name(CONFIG_FILE), read_config(weights)
    network, arguments = _mapping(config.get("network")), _mapping(config.get("model_args"))
    input_size = _mapping(config.get("pretrained_cfg")).get("input_size", config.get("input_size"))
    of_timm = input_size[1:] if isinstance(input_size, list) and len(input_size) == 3 else None
    vision = _mapping(config.get("vision_config"))  # of CLIP with both towers
    images = (
        network.get("img_size"),
        arguments.get("img_size"),
        config.get("image_size"),
        vision.get("image_size"),
        of_timm,
    )
    patches = (
        network.get("patch_size"),
        _product(network.get("stem_strides")),
        arguments.get("patch_size"),
        config.get("patch_size"),
        vision.get("patch_size"),
    )
    image_size, patch_size = (next(filter(None, map(_sides, values)), None) for values in (images, patches))
    return image_size and PatchGeometry(image_size=image_size, patch_size=patch_size, source=str(path))


def geometry_of_square(weights: Mapping[str, Tensor], source: str) -> PatchGeometry | None:
    """Return the geometry of a program that trains on square images, from the numbers of positions; None if they are no square.

    The class token has a position of its own, except in timm's networks with registers.
    """
    position, stem = weights.get("pos_embed"), weights.get("patch_embed.proj.weight")
    if position is None or stem is None or position.dim() != 3 or stem.dim() != 4:
        return None
    count, patch = position.shape[1] - int("reg_token" not in weights), (stem.shape[2], stem.shape[3])
    side = math.isqrt(count)
    size = (side * patch[0], side * patch[1])
    return PatchGeometry(image_size=size, patch_size=patch, source=source) if side**2 == count else None


def read_config(weights: Path) -> dict[str, Any]:
    """Return config.json beside a file of weights; an empty mapping if there is none or it is damaged.

    Raise OSError if the file exists and cannot be read.
    """
    try:
        return _mapping(json.loads(weights.with_name(CONFIG_FILE).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
        return {}


def model_type_of_config(weights: Path) -> str | None:
    """Return the `model_type` of transformers' config.json beside a file of weights, or None."""
    found = read_config(weights).get("model_type")
    return found if isinstance(found, str) else None


def geometry_of_recipe(recipe: Path | None) -> PatchGeometry | None:
    """Return the geometry of the run whose resolved recipe is at this path, or None if there is none or it is damaged.

    Raise OSError if the file exists and cannot be read.
    """
    content = read_recipe(recipe)
    image_size = _sides(_mapping(content.get("data")).get("image_size"))
    try:
        model = build(ModelConfig, content.get("model", {}), source=str(recipe))
    except UserError:
        return None
    return image_size and PatchGeometry(image_size=image_size, patch_size=_sides(model.patch()), source=str(recipe))


def read_recipe(recipe: Path | None) -> dict[str, Any]:
    """Return the resolved recipe of a run as a mapping; an empty one if there is none or it is damaged.

    Raise OSError if the file exists and cannot be read.
    """
    try:
        return _mapping(read_yaml(recipe.read_text(encoding="utf-8"))) if recipe else {}
    except (FileNotFoundError, NotADirectoryError, ValueError, YAMLError, RecursionError):
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    """Return a value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def _sides(value: Any) -> tuple[int, int] | None:
    """Return a size as (height, width), or None for anything but one or two positive integers."""
    sides = to_2tuple(tuple(value) if isinstance(value, list) else value)
    is_size = len(sides) == 2 and all(type(side) is int and side > 0 for side in sides)
    return (sides[0], sides[1]) if is_size else None


def _product(strides: Any) -> int | None:
    """Return the patch size of a stem with these strides, or None for anything but a list of integers."""
    is_strides = isinstance(strides, list) and strides and all(type(stride) is int for stride in strides)
    return math.prod(strides) if is_strides else None
