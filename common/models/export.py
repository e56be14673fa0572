"""Model export: config.json and model.safetensors in timm's format.

A network that timm itself can build is exported under timm's name, with its size in `model_args`, so that timm alone loads it:
`timm.create_model("local-dir:<folder>", pretrained=True)`. These are vision transformers with the patchify stem and linear
layers, VOLO-D1 with its default stem, and RegNetY except for small images. Any other network requires `import common.models`
first: `requires` in config.json and the architecture's tag, which the errors of timm and transformers show, name it. The logits
are identical.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from timm.models import VisionTransformer
from torch import nn

from common.files import replace_atomically, write_atomic
from common.json_text import to_json
from common.models.architectures import IMPORT_TAG
from common.models.classifier import classifier_names
from common.models.complexity import input_channels
from common.models.lora import merged
from common.models.patch_geometry import CONFIG_FILE
from common.models.regnet import RegNetY
from common.models.stem import Stem
from common.models.stem_registry import parse_stem
from common.models.timm_networks import NORM_EPS, format_kwargs, is_of_timm, without_own_arguments
from common.models.timm_preprocessing import describe_evaluation, timm_crop_pct
from common.models.weight_files import WEIGHTS_FILE
from common.sizes import height_and_width
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
    crop_pct: float = 1.0,
    squash: bool = False,
    images: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Export the network to `folder`: the weights first, the config last, each file atomically.

    `model_name` is the name for `timm.create_model`; its arguments are read from the network itself, so that defaults may
    change later. `mean` and `std` refer to pixels in 0..1.
    `crop_pct` and `squash` are those of the evaluation that measured `metrics`: timm's and transformers' preprocessing repeats it.
    `images` describes images that are not RGB of 8 bits (`DataConfig.describe_images`), which timm's preprocessing does not read.
    Class names are written if the network has a classifier with as many classes; `metrics` are informative only. LoRA's updates are
    added to the weights.
    """
    model = merged(model)
    arguments = _arguments(model)
    of_timm = _timm_form(model, model_name, arguments)
    architecture, model_arguments = of_timm or (f"{model_name}.{IMPORT_TAG}", dict(arguments))
    # timm reads the number of classes at the top; transformers passes it beside model_args, which may not hold it again.
    del model_arguments["num_classes"]
    config: dict[str, Any] = {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "global_pool": "avg" if isinstance(model, RegNetY) else model.global_pool,
        "model_args": model_arguments,
        "pretrained_cfg": _pretrained_cfg(model, image_size, mean, std, crop_pct, squash=squash),
        "network": {"name": model_name, **arguments},
        "evaluation": describe_evaluation(image_size, crop_pct, squash=squash, images=images),
        "metrics": dict(metrics),
    }
    if eps := getattr(model, "timm_kwargs", {}).get(NORM_EPS):
        config["evaluation"]["different_in_timm"].append(f"its layer norms have an epsilon of their own, here {eps}")
    if of_timm is None:
        config["requires"] = "import common.models (two-stage-vit), before timm or transformers load this network"
    if len(class_names) == model.num_classes:
        config["label_names"] = list(class_names)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    with replace_atomically(folder / WEIGHTS_FILE) as temporary:
        write_tensors(tensors, temporary, metadata={"format": "pt"})
    write_atomic(folder / CONFIG_FILE, to_json(config, indent=2, ensure_ascii=False) + "\n")


def _pretrained_cfg(
    model: Any,
    image_size: int | tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    crop_pct: float,
    *,
    squash: bool,
) -> dict[str, Any]:
    """Return timm's section on the images and on the first and last layers of a network."""
    height, width = height_and_width(image_size)
    return {
        "input_size": [input_channels(model), height, width],
        "fixed_input_size": not isinstance(model, RegNetY),
        "interpolation": "bicubic",
        "crop_pct": timm_crop_pct(image_size, crop_pct),
        "crop_mode": "squash" if squash else "center",
        "mean": list(mean),
        "std": list(std),
        "num_classes": model.num_classes,
        "first_conv": next(name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)),
        "classifier": list(classifier_names(model)),
    }


def _arguments(model: Any) -> dict[str, Any]:
    """Return the arguments that build this network by its name, independent of the architecture's defaults."""
    channels = input_channels(model)
    of_channels = {} if channels == 3 else {"in_chans": channels}
    if isinstance(model, RegNetY):
        return {"num_classes": model.num_classes, "img_size": list(model.img_size), **of_channels}
    stem = model.patch_embed
    if is_of_timm(model):
        return {
            "num_classes": model.num_classes,
            "img_size": list(stem.img_size),
            "patch_size": stem.patch_size[0],
            "kwargs": list(format_kwargs(model.timm_kwargs)),
            **of_channels,
        }
    assert isinstance(stem, Stem), "a network of this project"
    return {
        "num_classes": model.num_classes,
        "img_size": list(stem.img_size),
        "patch_size": stem.patch_size[0],
        "stem": stem.spec.name,
        "stem_strides": list(stem.strides),
        "ffn": model.ffn,
        **of_channels,
    }


def _timm_form(model: Any, model_name: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Return the name and arguments of the equivalent network of timm, or None if timm has none."""
    of_channels = {"in_chans": arguments["in_chans"]} if "in_chans" in arguments else {}
    if isinstance(model, RegNetY):
        # Any RegNetY of timm serves as the base: the arguments override everything in which they differ.
        timm_arguments = {"num_classes": model.num_classes, **of_channels, **model.design}
        return ("regnety_040", timm_arguments) if model.halves_image else None
    if is_of_timm(model):
        shape = {name: value for name, value in arguments.items() if name != "kwargs"}
        return model_name.partition(".")[0], shape | without_own_arguments(model.timm_kwargs)
    if isinstance(model, VisionTransformer):
        feed_forward = {"mlp": {}, "mlp_relu": {"act_layer": "relu"}}.get(model.ffn)
        if arguments["stem"] != "1Proj" or feed_forward is None:
            return None
        return "vit_base_patch16_224", {**_timm_transformer(model, arguments), **of_channels, **feed_forward}
    stem, sizes = model.patch_embed, ("num_classes", "img_size", "patch_size")
    default_stem = stem.spec == parse_stem("conv") and stem.strides == stem.spec.strides(stem.patch_size[0])
    if (model_name, model.ffn) == ("volo_d1", "mlp") and default_stem and stem.patch_size[0] in (4, 8, 16):
        return "volo_d1_224", {name: arguments[name] for name in sizes} | of_channels
    return None


def _timm_transformer(model: VisionTransformer, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with which timm's vision transformer equals this network, read from the network itself."""
    modules = dict(model.named_modules())
    hidden_dim = modules["blocks.0.mlp.fc1"].out_features
    return {
        "img_size": arguments["img_size"],
        "patch_size": arguments["patch_size"],
        "num_classes": model.num_classes,
        "embed_dim": model.embed_dim,
        "depth": len(model.blocks),
        "num_heads": modules["blocks.0.attn"].num_heads,
        "mlp_ratio": hidden_dim / model.embed_dim,
    }
