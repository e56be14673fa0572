"""The teacher of token labels: a trained classifier and its logits at each grid position of an image.

Shapes: B images, S pixels, h x w grid positions, C classes, D features.
"""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from common.config import build
from common.data.config import DataConfig
from common.errors import UserError
from common.files import path_exists
from common.models.checkpointed import is_checkpoint, recipe_of
from common.models.hub import fetch_weights, timm_arguments
from common.models.networks import ModelConfig, build_network
from common.models.patch_geometry import CONFIG_FILE, read_recipe
from common.models.weight_files import find_local_weights, read_weights
from common.models.weights import load_init
from common.models.weights_error import naming_key
from common.sizes import height_and_width
from common.training.normalization import normalization_of


def build_teacher(init: str, data: DataConfig, class_names: tuple[str, ...]) -> nn.Module:
    """Return the pretrained classifier `init` for images of `data.image_size`, in evaluation mode.

    `init` is a run folder of fine-tuning, its export, one of its checkpoints, a timm name, `timm:<name>`, `hf-hub:<id>` or
    `local-dir:<folder>`. Raise UserError if it does not exist, or if its classes or its normalization differ from the data's.
    """
    try:
        path, name = find_local_weights(init), _timm_name(init)
        of_checkpoint = path is not None and is_checkpoint(path)
    except OSError as error:
        raise UserError(
            f"init: {init!r} cannot be read ({error.strerror or error}: {error.filename}). Give this process read access to it."
        ) from error
    if path is not None and of_checkpoint:
        teacher, own = _from_checkpoint(init, path, data)
    else:
        teacher, own = _from_timm(init, name, data)
    _check(teacher, init, own, data, class_names)
    return teacher.requires_grad_(False).eval()


def _from_checkpoint(init: str, path: Path, data: DataConfig) -> tuple[nn.Module, dict[str, Any]]:
    """Return the classifier of a run's checkpoint and the normalization that its recipe states."""
    recipe, weights = recipe_of(path), read_weights(init).network.tensors
    classifier = weights.get("head.weight", weights.get("head.fc.weight"))
    if recipe is None or classifier is None:
        missing = "config.yaml of its run" if recipe is None else "classifier"
        raise UserError(
            f"init: {init!r} is a checkpoint without the {missing}. Set it to the run folder of a fine-tuning."
        )
    content = read_recipe(recipe)
    model = build(ModelConfig, content.get("model", {}), source=str(recipe))
    teacher = build_network(model, image_size=data.image_size, num_classes=len(classifier), in_chans=data.channels)
    load_init(teacher, init)
    found = normalization_of(init)
    return teacher, {} if found is None else {"mean": found[0], "std": found[1]}


def _from_timm(init: str, name: str, data: DataConfig) -> tuple[nn.Module, dict[str, Any]]:
    """Return a classifier that timm builds, and its class names and normalization."""
    is_folder = name.startswith("local-dir:")
    config = _config_of(name.removeprefix("local-dir:")) if is_folder else {}
    is_own = "network" in config  # an export of this project: its weights are read as `init` of every stage
    if name.startswith("hf-hub:"):
        with naming_key("init"):
            name = f"local-dir:{fetch_weights(name.removeprefix('hf-hub:'), init).parent}"
    with naming_key("init"):
        arguments = {} if name.startswith("local-dir:") else timm_arguments(name, init)
    try:
        teacher: nn.Module = timm.create_model(name, pretrained=not is_own, **arguments)
        own: dict[str, Any] = dict(teacher.pretrained_cfg)  # type: ignore[arg-type]
        if own.get("fixed_input_size") and tuple(own["input_size"][1:]) != height_and_width(data.image_size):
            teacher = timm.create_model(name, pretrained=not is_own, img_size=data.image_size, **arguments)
    except Exception as error:  # timm, the hub client and the network stack raise many exception types
        reason = " ".join(str(error).split())
        raise UserError(
            f"init: cannot load a teacher for images of {data.image_size} px from {init!r} ({type(error).__name__}: {reason}). Set"
            " it to a run folder of fine-tuning, timm:<name>, hf-hub:<id> or local-dir:<folder>, with its data.image_size."
        ) from error
    if is_own:
        load_init(teacher, name)
    return teacher, own | ({"label_names": config.get("label_names")} if is_folder else {})


def _config_of(folder: str) -> dict[str, Any]:
    """Return config.json of a folder; an empty one if it is damaged or missing, which timm reports."""
    try:
        content = json.loads((Path(folder) / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _timm_name(init: str) -> str:
    """Return `init` as a name for `timm.create_model`."""
    if init.startswith(("hf-hub:", "local-dir:")):
        return init
    folders = (Path(init) / "export", Path(init))
    found = next((folder for folder in folders if path_exists(folder / CONFIG_FILE)), None)
    return f"local-dir:{found}" if found else init.removeprefix("timm:")


def _check(teacher: nn.Module, init: str, own: dict[str, Any], data: DataConfig, class_names: tuple[str, ...]) -> None:
    """Raise UserError if the teacher's classes or normalization, as it states them (`own`), differ from the data's."""
    if teacher.num_classes != len(class_names):
        raise UserError(
            f"init: {init!r} has {teacher.num_classes} classes, the data has {len(class_names)}. Use a teacher trained on the"
            " data's classes."
        )
    if own.get("label_names") and tuple(own["label_names"]) != class_names:
        raise UserError(
            f"init: the classes of {init!r} differ from the data's, or have another order. Use a teacher trained on the data's"
            " classes."
        )
    for key, given in zip(("mean", "std"), data.statistics(), strict=True):
        expected = own.get(key)
        if not expected:
            continue
        if len(expected) != len(given) or any(abs(one - other) > 1e-3 for one, other in zip(expected, given)):
            raise UserError(
                f"data.{key} = {list(given)}: the teacher {init!r} was trained with {list(expected)}. Set it to that value."
            )


def weights_hash(network: nn.Module) -> str:
    """Return a hash of the names and values of a network's tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def token_logits(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (B, h, w, C) at each grid position of normalized images (B, 3, S, S); h x w is the network's last grid.

    VOLO's own token classifier is used. For any other network, its head is applied to the feature vector of each position, after
    the last norm, as if it were the pooled feature of an image. The papers' code does the same (Jiang et al. 2021, for an
    NFNet): a classifier after average pooling is linear in the positions. The head of a ViT that reads the class token has not
    been trained on patch tokens, so check the labels by the accuracy that the command reports.
    """
    features: Tensor = network.forward_features(images)  # type: ignore[operator]
    if getattr(network, "aux_head", None) is not None:
        return _as_grid(network.aux_head(features[:, 1:]))  # type: ignore[operator]
    if features.dim() == 3:
        prefix: int = getattr(network, "num_prefix_tokens", 0)
        tokens = features[:, prefix:]
        # Each token is repeated as class token and as patch token, so the head reads it whichever of them it uses.
        single = tokens.flatten(0, 1)[:, None].expand(-1, prefix + 1, -1)
        logits: Tensor = network.forward_head(single)  # type: ignore[operator]
        return _as_grid(logits.view(*tokens.shape[:2], -1))
    if features.shape[1] == network.num_features:
        features = features.permute(0, 2, 3, 1)
        single = features.flatten(0, 2)[:, :, None, None]
    else:
        single = features.flatten(0, 2)[:, None, None, :]
    logits = network.forward_head(single)  # type: ignore[operator]
    return logits.view(*features.shape[:3], -1)


def _as_grid(logits: Tensor) -> Tensor:
    """Return the logits (B, N, C) of a square image's tokens as (B, h, w, C)."""
    side = math.isqrt(logits.shape[1])
    return logits.view(len(logits), side, side, -1)
