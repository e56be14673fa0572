"""Owns the exported folder: config.json and model.safetensors, as timm reads them.

A network with the patchify stem is written as one of timm's own vision transformers, its size among the arguments, so
that plain timm loads it: `timm.create_model("local-dir:<folder>", pretrained=True)`. Any other stem needs
`import common.models` first. The logits are the same.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from timm.models import VisionTransformer
from torch import nn

from common.models.stems import Stem
from common.models.weight_files import CONFIG_FILE, WEIGHTS_FILE

_PLAIN_ARCHITECTURE = "vit_base_patch16_224"


def export_network(
    model: VisionTransformer,
    folder: Path,
    *,
    model_name: str,
    class_names: Sequence[str],
    mean: Sequence[float],
    std: Sequence[float],
    image_size: int | tuple[int, int],
    metrics: Mapping[str, float],
) -> None:
    """Write the network into `folder`, the weights first and the config last, each file whole or not at all.

    `model_name` is what `timm.create_model` built it by; its arguments are read off the network itself, so that defaults
    may change later. `mean` and `std` are of pixels in 0..1.
    Class names are written where the network has a classifier of them; `metrics` are for people.
    """
    arguments = _arguments(model)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    plain = arguments["stem"] == "1Proj"
    config = {
        "architecture": _PLAIN_ARCHITECTURE if plain else model_name,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "global_pool": model.global_pool,
        "model_args": _plain_arguments(model, arguments) if plain else arguments,
        "pretrained_cfg": {
            "input_size": [3, height, width],
            "fixed_input_size": True,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": list(mean),
            "std": list(std),
            "num_classes": model.num_classes,
            "first_conv": next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)),
            "classifier": "head",
        },
        "network": {"name": model_name, **arguments},
        "metrics": dict(metrics),
    }
    if len(class_names) == model.num_classes:
        config["label_names"] = list(class_names)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / f".{WEIGHTS_FILE}", metadata={"format": "pt"})
    os.replace(folder / f".{WEIGHTS_FILE}", folder / WEIGHTS_FILE)
    (folder / f".{CONFIG_FILE}").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(folder / f".{CONFIG_FILE}", folder / CONFIG_FILE)


def _arguments(model: VisionTransformer) -> dict[str, Any]:
    """Return the arguments that build this very network by its name, whatever the architecture's defaults will be by then."""
    stem = model.patch_embed
    assert isinstance(stem, Stem), "a network of this project's own"
    return {
        "num_classes": model.num_classes,
        "img_size": list(stem.img_size),
        "patch_size": stem.patch_size[0],
        "stem": stem.spec.name,
        "stem_strides": list(stem.strides),
    }


def _plain_arguments(model: VisionTransformer, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that make timm's own architecture this network, read off the network itself."""
    linears = dict(model.named_modules())
    hidden_dim = linears["blocks.0.mlp.fc1"].out_features
    return {
        "img_size": arguments["img_size"],
        "patch_size": arguments["patch_size"],
        "num_classes": model.num_classes,
        "embed_dim": model.embed_dim,
        "depth": len(model.blocks),
        "num_heads": linears["blocks.0.attn"].num_heads,
        "mlp_ratio": hidden_dim / model.embed_dim,
    }
