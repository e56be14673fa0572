"""Networks and files that are not supported as weights, told from the names of their tensors."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

_KINDS = (
    (
        ("relative_position_bias_table", "rel_pos_bias."),
        "with a relative position bias, as BEiT, Data2Vec and Swin have it, which no network has here; use weights of a ViT",
    ),
    (("pos_embeder.",), "of XCiT, which is not supported; use DINO's weights of a ViT"),
    (
        ("layer1.0.conv1.weight",),
        "of a convolutional network such as ResNet, which is not supported; use weights of a ViT",
    ),
    (
        ("downsample_layers.", "stages.0."),
        "of a network of stages such as ConvNeXt, which is not supported; use weights of a ViT",
    ),
    (("lora_A.", ".base_layer."), "of a network with peft's adapters; save it after merge_and_unload()"),
    (("encoder.layers.encoder_layer_",), "of torchvision's ViT, whose names are not read; use timm's weights of a ViT"),
)
"""Parts of names, and what they stand for with the remedy."""
_LINEAR = ("linear.weight", "linear.bias")

_FILES = {
    "adapter_model.safetensors": "peft's adapters without their network; use the network, saved after merge_and_unload()",
    "adapter_model.bin": "peft's adapters without their network; use the network, saved after merge_and_unload()",
    "tf_model.h5": "weights of TensorFlow; save them with transformers as model.safetensors (from_tf=True)",
    "flax_model.msgpack": "weights of Flax; save them with transformers as model.safetensors (from_flax=True)",
}
"""Files of weights that are not read, and what they hold with the remedy."""


def describe_unsupported_files(folder: Path) -> str | None:
    """Return which file of weights that is not read a folder has, with the remedy, or None if it has none."""
    found = next((name for name in _FILES if (folder / name).exists()), None)
    return None if found is None else f"has {found}, {_FILES[found]}"


def kind_of_network(tensors: Mapping[str, Tensor]) -> str | None:
    """Return in words what weights are of and what to use instead, or None unless their names tell another kind of network."""
    for parts, words in _KINDS:
        if any(part in name for name in tensors for part in parts):
            return f"weights {words}"
    if set(tensors) == set(_LINEAR):
        return "the weights of a linear classifier alone; use those of its backbone"
    is_transformer = any(name.startswith("blocks.") for name in tensors) and "patch_embed.proj.weight" in tensors
    if is_transformer and "cls_token" not in tensors:
        return (
            "weights of a network without a class token, such as I-JEPA's or SigLIP's; set model.name to timm's name of it, if timm"
            " has it, or use other weights"
        )
    return None
