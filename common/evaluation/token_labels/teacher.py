"""Owns the teacher of dense labels: a trained classifier, and what it says of each place of an image.

Shapes: B images, S pixels, h x w places, C classes, D features.
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
from common.files import is_there
from common.models.weight_files import CONFIG_FILE


def build_teacher(init: str, data: DataConfig, class_names: tuple[str, ...]) -> nn.Module:
    """Return the classifier that `init` names, with its own weights, for images of `data.image_size`, in evaluation mode.

    `init` is a run folder of fine-tuning, its export, a timm name, `timm:<name>`, `hf-hub:<id>` or `local-dir:<folder>`.
    Errors: nothing there by that name; other classes, or pixels normalised in another way, than the data's.
    """
    name = _timm_name(init)
    try:
        teacher: nn.Module = timm.create_model(name, pretrained=True)
        own: dict[str, Any] = teacher.pretrained_cfg  # type: ignore[assignment]
        if own.get("fixed_input_size") and own["input_size"][-1] != data.image_size:
            teacher = timm.create_model(name, pretrained=True, img_size=data.image_size)
    except Exception as error:  # timm, the hub's client and the network underneath raise many kinds
        reason = " ".join(str(error).split())
        raise UserError(
            f"init: {init!r} gives no teacher for images of {data.image_size} px ({type(error).__name__}: {reason}). Give a run"
            " folder of fine-tuning, timm:<name>, hf-hub:<id> or local-dir:<folder>, and its data.image_size"
        ) from error
    _check(teacher, init, name, data, class_names)
    return teacher.requires_grad_(False).eval()


def _timm_name(init: str) -> str:
    """Return what timm calls the network that `init` names."""
    if init.startswith(("hf-hub:", "local-dir:")):
        return init
    for folder in (Path(init) / "export", Path(init)):
        try:
            if is_there(folder / CONFIG_FILE):
                return f"local-dir:{folder}"
        except OSError as error:
            raise UserError(
                f"init: {init!r} cannot be read ({error.strerror or error}: {error.filename}); let this process read it"
            ) from error
    return init.removeprefix("timm:")


def _check(teacher: nn.Module, init: str, name: str, data: DataConfig, class_names: tuple[str, ...]) -> None:
    """Refuse a teacher that does not speak of the data's classes, or sees other pixels."""
    own: dict[str, Any] = dict(teacher.pretrained_cfg)  # type: ignore[arg-type]
    if name.startswith("local-dir:"):
        config = Path(name.removeprefix("local-dir:")) / CONFIG_FILE
        own["label_names"] = json.loads(config.read_text(encoding="utf-8")).get("label_names")
    if teacher.num_classes != len(class_names):
        raise UserError(
            f"init: {init!r} tells {teacher.num_classes} classes apart, the data has {len(class_names)}. Take a teacher that was"
            " trained on these classes."
        )
    if own.get("label_names") and tuple(own["label_names"]) != class_names:
        raise UserError(
            f"init: {init!r} knows other classes, or in another order, than the data. Take a teacher of these."
        )
    for key in ("mean", "std"):
        theirs, ours = own.get(key), getattr(data, key)
        if theirs and any(abs(one - other) > 1e-3 for one, other in zip(theirs, ours, strict=True)):
            raise UserError(
                f"data.{key} = {list(ours)}: the teacher {init!r} was trained with {list(theirs)}. Set it to that."
            )


def weights_hash(network: nn.Module) -> str:
    """Return a hash of the names and values of a network's tensors."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def dense_scores(network: nn.Module, images: Tensor) -> Tensor:
    """Return (B, h, w, C) logits of the places of normalised images (B, 3, S, S), h x w being the network's last grid.

    VOLO has a classifier of tokens, which is taken. Any other network's own head is given the feature vector of each place,
    after the last norm, as if it were the pooled feature of an image. The papers' code does the same (Jiang et al. 2021,
    for an NFNet): a classifier behind average pooling is linear in the places. The head of a ViT that reads the class
    token has not been trained on patch tokens, so the labels are to be judged by the accuracy that the command reports.
    """
    features: Tensor = network.forward_features(images)  # type: ignore[operator]
    if getattr(network, "aux_head", None) is not None:
        return _as_grid(network.aux_head(features[:, 1:]))  # type: ignore[operator]
    if features.dim() == 3:
        prefix: int = getattr(network, "num_prefix_tokens", 0)
        tokens = features[:, prefix:]
        # Each token stands in for the class token and for all patches: whichever the head reads, it reads this one.
        single = tokens.flatten(0, 1)[:, None].expand(-1, prefix + 1, -1)
        scores: Tensor = network.forward_head(single)  # type: ignore[operator]
        return _as_grid(scores.view(*tokens.shape[:2], -1))
    if features.shape[1] == network.num_features:
        features = features.permute(0, 2, 3, 1)
        single = features.flatten(0, 2)[:, :, None, None]
    else:
        single = features.flatten(0, 2)[:, None, None, :]
    scores = network.forward_head(single)  # type: ignore[operator]
    return scores.view(*features.shape[:3], -1)


def _as_grid(scores: Tensor) -> Tensor:
    """Return (B, N, C) scores of the tokens of a square image as (B, h, w, C)."""
    side = math.isqrt(scores.shape[1])
    return scores.view(len(scores), side, side, -1)
