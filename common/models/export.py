"""Owns the exported folder: config.json and model.safetensors, as timm reads them.

A network that timm has under a name of its own is written as that one, its size among the arguments, so that plain timm
loads it: `timm.create_model("local-dir:<folder>", pretrained=True)`. These are vision transformers with the patchify
stem and Linear layers, VOLO-D1 with its own stem, and RegNetY but for small images. Any other needs
`import common.models` first. The logits are the same.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from timm.models import VisionTransformer
from torch import nn

from common.files import write_whole
from common.models.classifier import classifier_names
from common.models.regnet import RegNetY
from common.models.stem_grammar import parse_stem
from common.models.stems import Stem
from common.models.weight_files import CONFIG_FILE, WEIGHTS_FILE
from common.tensor_files import write_tensors


def export_network(
    model: Any,
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
    architecture, model_arguments = _plain_form(model, model_name, arguments) or (model_name, arguments)
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    config = {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "global_pool": "avg" if isinstance(model, RegNetY) else model.global_pool,
        "model_args": model_arguments,
        "pretrained_cfg": {
            "input_size": [3, height, width],
            "fixed_input_size": not isinstance(model, RegNetY),
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "mean": list(mean),
            "std": list(std),
            "num_classes": model.num_classes,
            "first_conv": next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)),
            "classifier": list(classifier_names(model)),
        },
        "network": {"name": model_name, **arguments},
        "metrics": dict(metrics),
    }
    if len(class_names) == model.num_classes:
        config["label_names"] = list(class_names)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    write_tensors(tensors, folder / f".{WEIGHTS_FILE}", metadata={"format": "pt"})
    os.replace(folder / f".{WEIGHTS_FILE}", folder / WEIGHTS_FILE)  # on the disk with the folder, below
    write_whole(folder / CONFIG_FILE, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _arguments(model: Any) -> dict[str, Any]:
    """Return the arguments that build this very network by its name, whatever the architecture's defaults will be by then."""
    if isinstance(model, RegNetY):
        return {"num_classes": model.num_classes, "img_size": list(model.img_size)}
    stem = model.patch_embed
    assert isinstance(stem, Stem), "a network of this project's own"
    return {
        "num_classes": model.num_classes,
        "img_size": list(stem.img_size),
        "patch_size": stem.patch_size[0],
        "stem": stem.spec.name,
        "stem_strides": list(stem.strides),
        "ffn": model.ffn,
    }


def _plain_form(model: Any, model_name: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return the name and the arguments of timm's own network that is this one; none where timm has no such network."""
    if isinstance(model, RegNetY):
        # Any of RegNetY's designs will do: the arguments say all in which they differ.
        plain = {"num_classes": model.num_classes, **model.design}
        return ("regnety_040", plain) if model.halves_image else None
    if isinstance(model, VisionTransformer):
        plain_feed_forward = {"mlp": {}, "mlp_relu": {"act_layer": "relu"}}.get(model.ffn)
        if arguments["stem"] != "1Proj" or plain_feed_forward is None:
            return None
        return "vit_base_patch16_224", {**_plain_transformer(model, arguments), **plain_feed_forward}
    stem, sizes = model.patch_embed, ("num_classes", "img_size", "patch_size")
    own_stem = stem.spec == parse_stem("conv") and stem.strides == stem.spec.strides(stem.patch_size[0])
    if (model_name, model.ffn) == ("volo_d1", "mlp") and own_stem and stem.patch_size[0] in (4, 8, 16):
        return "volo_d1_224", {name: arguments[name] for name in sizes}
    return None


def _plain_transformer(model: VisionTransformer, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that make timm's vision transformer this network, read off the network itself."""
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
