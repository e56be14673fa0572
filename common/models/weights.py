"""Owns weights in and out: `load_init` starts a network from what a recipe names, `export_network` writes it out.

Loading is strict: whatever is missing, unexpected, misshapen, not finite or of another kind is named, all at once, and
nothing is loaded.
Two differences are allowed, and logged: a classifier of another class count keeps its fresh weights, and a position
embedding for another grid is resized once, as timm does it (bicubic, antialiased). Nothing is unpickled that could run code.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import VisionTransformer
from timm.models.volo import VOLO
from torch import Tensor, nn

from common.errors import UserError
from common.models.classifier import classifier_names
from common.models.export import export_network
from common.models.weight_files import describe_network, read_weights

__all__ = ["InitReport", "export_network", "load_init"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class InitReport:
    """Tell what became of the weights that were given."""

    source: str
    """File or name that the weights were read from."""
    num_loaded: int
    """Tensors that were loaded."""
    head: str
    """Either loaded, fresh (no classifier of this class count was given), dropped (the network has none), or none."""
    resized_from: tuple[int, int] | None
    """Grid of the given position embedding where it was resized, (rows, columns) of patches."""


def load_init(model: nn.Module, init: str, *, image_size: int | tuple[int, int]) -> InitReport:
    """Load into `model`, built for `image_size`, the weights that the recipe key `init` names.

    `init` is a run folder (its `export/` is read), a folder with `model.safetensors`, a `.safetensors` file, a `.pth`
    file of tensors (DINO's backbone, or its full checkpoint, of which the teacher is taken), `timm:<name>` or a timm
    name, `hf-hub:<id>`, or `local-dir:<folder>`.

    Errors: a source that is not there or not whole; any tensor that does not fit.
    """
    source, weights = read_weights(init)
    _refuse_kinds(init, weights)
    expected = dict(model.state_dict())
    head = _settle_head(model, weights, expected)
    resized_from = _resize_position_embedding(model, weights)
    _refuse_differences(init, source, weights, expected)
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(weights[name])
    logger.info("init: %d tensors loaded from %s", len(expected), source)
    if head == "fresh":
        logger.info("init: the classifier keeps its fresh weights, for none of its class count was given")
    elif head == "dropped":
        logger.info("init: the given classifier is left out, for this network has none")
    if resized_from is not None:
        logger.info(
            "init: position embedding resized from %dx%d patches to %s px images, once (bicubic, antialiased, as timm does)",
            *resized_from,
            image_size,
        )
    return InitReport(source=source, num_loaded=len(expected), head=head, resized_from=resized_from)


def _settle_head(model: nn.Module, weights: dict[str, Tensor], expected: dict[str, Tensor]) -> str:
    """Take the classifier out of the comparison where only its class count differs, and say what becomes of it.

    A network with two classifiers, VOLO's of the image and of the tokens, keeps both fresh or takes both: they have the
    same class count.
    """
    classifiers = classifier_names(model)
    first = f"{classifiers[0]}.weight"
    given, wanted = weights.get(first), expected.get(first)
    if given is not None and wanted is not None:
        only_count_differs = given.shape[1:] == wanted.shape[1:] and given.shape[:1] != wanted.shape[:1]
        if not only_count_differs:
            return "loaded"
    for name in (f"{classifier}.{kind}" for classifier in classifiers for kind in ("weight", "bias")):
        weights.pop(name, None)
        expected.pop(name, None)
    if wanted is not None:
        return "fresh"
    return "none" if given is None else "dropped"


def _resize_position_embedding(model: nn.Module, weights: dict[str, Tensor]) -> tuple[int, int] | None:
    """Resize the given position embedding to the network's grid where only the grid differs; return the old grid.

    A vision transformer's is (1, prefix + patches, D) and says its grid only where that is square; VOLO's is
    (1, rows, columns, D).
    """
    given, ours = weights.get("pos_embed"), getattr(model, "pos_embed", None)
    if (
        not isinstance(ours, Tensor)
        or given is None
        or given.shape == ours.shape
        or given.shape[-1:] != ours.shape[-1:]
    ):
        return None
    if isinstance(model, VOLO) and given.dim() == 4:
        old_grid, new_grid = (given.shape[1], given.shape[2]), list(ours.shape[1:3])
        resized = resample_abs_pos_embed(
            given.flatten(1, 2), new_size=new_grid, old_size=list(old_grid), num_prefix_tokens=0
        )
        weights["pos_embed"] = resized.unflatten(1, new_grid)
        return old_grid
    if not isinstance(model, VisionTransformer) or given.dim() != 3:
        return None
    num_prefix_tokens = model.num_prefix_tokens
    num_patches = given.shape[1] - num_prefix_tokens
    side = math.isqrt(max(num_patches, 0))
    if side == 0 or side**2 != num_patches or given.shape[0] != ours.shape[0]:
        return None
    grid = list(model.patch_embed.grid_size)
    weights["pos_embed"] = resample_abs_pos_embed(given, new_size=grid, num_prefix_tokens=num_prefix_tokens)
    return side, side


def _refuse_kinds(init: str, weights: Mapping[str, Tensor]) -> None:
    """Raise one error that names every tensor that is not a plain array of real numbers.

    A count of batches (`num_batches_tracked`) is whole; everything else is floating-point, of any width.
    """
    strange = [
        f"{name} ({tensor.dtype}, {str(tensor.layout).removeprefix('torch.')}, on {tensor.device.type})"
        for name, tensor in weights.items()
        if tensor.layout != torch.strided
        or tensor.device.type == "meta"
        or not (tensor.is_floating_point() or (tensor.dtype == torch.int64 and tensor.dim() == 0))
    ]
    if strange:
        raise UserError(
            f"init: the weights of {init} are not all plain floating-point tensors; save the network's state_dict in"
            f" float32\n  {len(strange)} of another kind: {', '.join(strange)}"
        )


def _refuse_differences(init: str, source: str, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise one error that names every tensor that is missing, unexpected, misshapen or not finite."""
    shared = [name for name in expected if name in weights]
    groups = {
        "missing": [name for name in expected if name not in weights],
        "unexpected": [name for name in weights if name not in expected],
        "misshapen": [
            f"{name} {tuple(weights[name].shape)} for {tuple(expected[name].shape)}"
            for name in shared
            if weights[name].shape != expected[name].shape
        ],
        "not finite": [name for name in shared if not torch.isfinite(weights[name].to(expected[name].dtype)).all()],
    }
    found = {kind: names for kind, names in groups.items() if names}
    if not found:
        return
    remedy = "set model.name, model.patch_size, model.stem, model.stem_strides and model.ffn to those the weights were made with"
    remedy += describe_network(source)
    if list(found) == ["not finite"]:
        remedy = "the run that wrote them diverged or the file is damaged; take weights from before"
    lines = [f"  {len(names)} {kind}: {', '.join(names)}" for kind, names in found.items()]
    raise UserError("\n".join([f"init: the weights of {init} do not fit this network; {remedy}", *lines]))
