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

import common.models.networks  # noqa: F401  # registers this project's architectures with timm
from common.data.config import DataConfig
from common.errors import UserError
from common.files import path_exists
from common.models.patch_geometry import CONFIG_FILE


def build_teacher(init: str, data: DataConfig, class_names: tuple[str, ...]) -> nn.Module:
    """Return the pretrained classifier `init` for images of `data.image_size`, in evaluation mode.

    `init` is a run folder of fine-tuning, its export, a timm name, `timm:<name>`, `hf-hub:<id>` or `local-dir:<folder>`.
    Raise UserError if it does not exist, or if its classes or its normalization differ from the data's.
    """
    name = _timm_name(init)
    try:
        teacher: nn.Module = timm.create_model(name, pretrained=True)
        own: dict[str, Any] = teacher.pretrained_cfg  # type: ignore[assignment]
        if own.get("fixed_input_size") and own["input_size"][-1] != data.image_size:
            teacher = timm.create_model(name, pretrained=True, img_size=data.image_size)
    except Exception as error:  # timm, the hub client and the network stack raise many exception types
        reason = " ".join(str(error).split())
        raise UserError(
            f"init: cannot load a teacher for images of {data.image_size} px from {init!r} ({type(error).__name__}: {reason}). Set"
            " it to a run folder of fine-tuning, timm:<name>, hf-hub:<id> or local-dir:<folder>, with its data.image_size."
        ) from error
    _check(teacher, init, name, data, class_names)
    return teacher.requires_grad_(False).eval()


def _timm_name(init: str) -> str:
    """Return `init` as a name for `timm.create_model`."""
    if init.startswith(("hf-hub:", "local-dir:")):
        return init
    for folder in (Path(init) / "export", Path(init)):
        try:
            if path_exists(folder / CONFIG_FILE):
                return f"local-dir:{folder}"
        except OSError as error:
            raise UserError(
                f"init: {init!r} cannot be read ({error.strerror or error}: {error.filename}). Give this process read access to it."
            ) from error
    return init.removeprefix("timm:")


def _check(teacher: nn.Module, init: str, name: str, data: DataConfig, class_names: tuple[str, ...]) -> None:
    """Raise UserError if the teacher's classes or normalization differ from the data's."""
    own: dict[str, Any] = dict(teacher.pretrained_cfg)  # type: ignore[arg-type]
    if name.startswith("local-dir:"):
        config = Path(name.removeprefix("local-dir:")) / CONFIG_FILE
        own["label_names"] = json.loads(config.read_text(encoding="utf-8")).get("label_names")
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
    for key in ("mean", "std"):
        expected, given = own.get(key), getattr(data, key)
        if expected and any(abs(one - other) > 1e-3 for one, other in zip(expected, given, strict=True)):
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
