"""What the config files beside weights state about their network, in the words of transformers: its own, and OpenCLIP's."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import UserError
from common.models.network_settings import NetworkSettings, settings_of_config, settings_of_timm
from common.models.patch_geometry import read_config

OPEN_CLIP = "open_clip_config.json"
_HEAD_WIDTH = 64
"""OpenCLIP's default of `vision_cfg.head_width`."""


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file's mapping, or an empty one if there is none or it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def section_of(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a mapping within a config, or an empty one if it has none of this name."""
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def label_names(config: Mapping[str, Any]) -> list[str] | None:
    """Return the names of the classes that config.json states: those of an export, or transformers' `id2label` unless generated."""
    if isinstance(found := config.get("label_names"), list):
        return [str(name) for name in found]
    by_number = section_of(config, "id2label")
    if not by_number or not all(str(number).isdigit() for number in by_number):
        return None
    names = [str(by_number[number]) for number in sorted(by_number, key=int)]
    return None if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names


def settings_of_file(path: Path, layout: str) -> NetworkSettings:
    """Return the settings that the configs beside a file of weights state; `layout` is the program of the weights' names.

    OpenCLIP's config counts for weights in CLIP's names alone: beside transformers' names it describes another file.
    """
    config = read_config(path)
    if isinstance(architecture := config.get("architecture"), str):
        told = settings_of_timm(architecture, section_of(config, "model_args"))
        return replace(told, norm_eps=None) if "network" in config else told  # timm takes no epsilon of an export
    tower = section_of(config, "vision_config") or config
    of_transformers = NetworkSettings() if "vocab_size" in tower else settings_of_config(tower)  # of a text model
    open_clip = section_of(read_json(path.with_name(OPEN_CLIP)), "model_cfg") if layout == "CLIP" else {}
    return _settings_of_open_clip(open_clip).or_else(of_transformers) if open_clip else of_transformers


def check_open_clip(path: Path, layout: str) -> None:
    """Raise UserError for an OpenCLIP config whose image tower is none of timm's networks of CLIP."""
    if layout != "CLIP":
        return
    vision = section_of(section_of(read_json(path.with_name(OPEN_CLIP)), "model_cfg"), "vision_cfg")
    defaults = {"pool_type": "tok", "no_ln_pre": False, "act_kwargs": {}}
    for name, default in defaults.items():
        if vision.get(name, default) not in (default, None):
            raise UserError(
                f"model.name: init stands for the network of the weights, and {path.with_name(OPEN_CLIP)} states"
                f" vision_cfg.{name} = {vision[name]!r}, which CLIP's networks do not have here; use the same weights as timm has"
                " them (timm:<name>), or other weights"
            )


def _settings_of_open_clip(model: Mapping[str, Any]) -> NetworkSettings:
    """Return the settings that OpenCLIP's `model_cfg` states."""
    vision = section_of(model, "vision_cfg")
    width, head_width = vision.get("width"), vision.get("head_width", _HEAD_WIDTH)
    is_stated = isinstance(width, int) and isinstance(head_width, int) and head_width > 0
    eps = section_of(vision, "norm_kwargs").get("eps")
    return NetworkSettings(
        num_heads=width // head_width if is_stated else None,
        norm_eps=float(eps) if isinstance(eps, int | float) else None,
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
    )
