"""timm's VOLO with any stem, any feed-forward design, and MixToken in the forward pass.

VOLO (Yuan et al. 2021) turns patches into tokens and refines them with outlookers; 2 x 2 tokens are then merged, a position
embedding is added, and transformer blocks and two class-attention blocks for the class token follow. Its auxiliary classifier
`aux_head` classifies each token, for token labeling (Jiang et al. 2021).

Shapes: B images, H x W tokens after merging, D the width, C classes.
"""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import to_2tuple
from timm.models import build_model_with_cfg
from timm.models.volo import VOLO, Outlooker, Transformer
from torch import Tensor, nn

from common.errors import UserError
from common.models.architectures import ARCHITECTURES, Architecture, Entrypoint, register
from common.models.feed_forward import set_feed_forward
from common.models.initialization import initialize_narrow
from common.models.stem import Stem
from common.models.stem_registry import parse_stem

default_cfgs: dict[str, Any] = {}
_MERGED = 2  # VOLO merges 2 x 2 tokens into one after its outlookers
_TIMM_PATCH = (
    8  # timm's constructor accepts 4, 8 or 16: it gets an image size with the same number of patches of 8 pixels
)


class Volo(VOLO):  # type: ignore[misc]
    """Classify images (B, 3, S, S) of one size, a multiple of twice the patch.

    It differs from timm's VOLO only in the stem and, depending on `ffn`, in the feed-forward blocks of the outlookers and
    transformer blocks. Scaled ReLU does not specify whether the class-attention blocks change with them; here they do not,
    because BN on the single class token would depend on the other images only.

    With `num_classes=0` there are no classifiers, and the class token after the last norm is returned.
    """

    def __init__(
        self,
        *,
        stem: str,
        stem_strides: tuple[int, ...] | None,
        patch_size: int,
        img_size: int | tuple[int, int],
        ffn: str = "mlp",
        initialize: Callable[[nn.Module], None] | None = None,
        embed_dims: tuple[int, ...],
        in_chans: int = 3,
        **options: Any,
    ) -> None:
        sides: tuple[int, int] = to_2tuple(img_size)
        _check_mergeable(sides, patch_size)
        patches = tuple(side // patch_size * _TIMM_PATCH for side in sides)
        super().__init__(img_size=patches, patch_size=_TIMM_PATCH, embed_dims=embed_dims, in_chans=in_chans, **options)
        for stage in self.feature_info:
            stage["reduction"] = stage["reduction"] * patch_size // _TIMM_PATCH
        if initialize is not None:
            initialize(self)
        self.patch_embed = Stem(
            parse_stem(stem),
            stem_strides,
            img_size=sides,
            patch_size=patch_size,
            in_chans=in_chans,
            embed_dim=embed_dims[0],
            output_fmt="NCHW",
        )
        set_feed_forward([block for block in self.modules() if isinstance(block, Outlooker | Transformer)], ffn)
        self.ffn = ffn

    @property
    def token_grid(self) -> tuple[int, int]:
        """Return (H, W), the grid of the tokens that the token classifier receives; boxes are given in its units."""
        return self.pos_embed.shape[1], self.pos_embed.shape[2]

    def forward(self, images: Tensor, box: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return the logits of images; with a box, the logits of the class token and of the tokens separately.

        `network(images)`: (B, C) logits, those of the class token + 0.5 * the maximum over the tokens of each class's token
        logits, as VOLO is evaluated, both in training and evaluation mode.

        `network(images, box)`: (B, C) logits of the class token and (B, H * W, C) token logits in row-major order, for token
        labeling. `box` = (top, left, bottom, right), int64, the last two exclusive, in tokens of `token_grid`; it is a tensor on
        the device, because a compiled network would be compiled anew for every other number. A tensor without elements mixes
        nothing. Otherwise (MixToken) images 2k and 2k + 1 exchange the tokens within the box after the
        stem (where the grid has twice as many rows and columns), and the token logits within it are exchanged back at the end.
        So `token_logits[i]` belongs to image i's own tokens everywhere and is trained with image i's own token labels; those
        within the box were computed in the context of the partner. The class token of image i attends to image i outside the
        box and to its partner within: its target is lam * label_i + (1 - lam) * label_partner, lam = 1 - area of the box /
        (H * W). timm's `forward_train` does the same, but pairs image i with image B - 1 - i and draws the box itself.

        Raise UserError for MixToken with an odd number of images.
        """
        if box is None:
            logits: Tensor = super().forward(images)
            return logits
        assert self.aux_head is not None, "token labeling needs classes"
        patches = self.patch_embed(images).permute(0, 2, 3, 1)
        patches = exchange_box(patches, _MERGED * box)
        tokens = self.norm(self.forward_cls(self.forward_tokens(patches)))
        tokens = self.head_drop(tokens)
        token_logits = self.aux_head(tokens[:, 1:]).unflatten(1, self.token_grid)
        return self.head(tokens[:, 0]), exchange_box(token_logits, box).flatten(1, 2)


def exchange_box(values: Tensor, box: Tensor) -> Tensor:
    """Return (B, H, W, ...) values with the box (top, left, bottom, right) exchanged between images 2k and 2k + 1.

    Without elements in `box` nothing is exchanged. Raise UserError for an odd number of images otherwise.
    """
    if box.numel() == 0:
        return values
    if len(values) % 2:
        raise UserError(
            f"train.batch_size: each process gets {len(values)} images, but MixToken pairs them; use an even number per"
            " process, or disable MixToken"
        )
    rows, columns = (torch.arange(side, device=values.device) for side in values.shape[1:3])
    top, left, bottom, right = box.unbind()
    inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    partners = values.reshape(-1, 2, *values.shape[1:]).flip(1).reshape(values.shape)
    return torch.where(inside.view(*inside.shape, *[1] * (values.ndim - 3)), partners, values)


def _check_mergeable(sides: tuple[int, int], patch_size: int) -> None:
    """Raise UserError unless the patches of an image can be merged 2 x 2."""
    multiple = _MERGED * patch_size
    for side in sides:
        if side % multiple or side < multiple:
            below = max(side // multiple, 1) * multiple
            raise UserError(
                f"data.image_size: {side} is not a multiple of {multiple}, but VOLO merges 2 x 2 patches of {patch_size} px;"
                f" set {below} or {below + multiple}, or another model.patch_size"
            )


def _volo(name: str, arguments: dict[str, Any], **size: Any) -> Volo:
    """Build a VOLO of this size from timm's keyword arguments, including `stem`, `stem_strides` and `ffn`."""
    architecture = ARCHITECTURES[name]
    options = {"patch_size": architecture.patch_size, "stem": architecture.stem, "stem_strides": None, **arguments}
    if options["stem_strides"] is not None:
        options["stem_strides"] = tuple(options["stem_strides"])
    model: Volo = build_model_with_cfg(
        Volo,
        name,
        options.pop("pretrained", False),
        feature_cfg={"out_indices": options.pop("out_indices", 3), "feature_cls": "getter"},
        **{**size, **options},
    )
    return model


def _register(*, image_size: int, patch_size: int, stem: str = "conv") -> Callable[[Entrypoint], Entrypoint]:
    """Register a size under its function's name, in this registry and in timm's."""
    return register(
        default_cfgs,
        Architecture(image_size=image_size, patch_size=patch_size, stem=stem, dynamic_img_size=False),
        first_conv="patch_embed.conv.0",
        classifier=("head", "aux_head"),
    )


@_register(image_size=224, patch_size=8)
def volo_d1(**arguments: Any) -> Volo:
    """VOLO-D1: 26.6 M parameters with its default stem, which is Scaled ReLU's conv stem at patch size 8."""
    return _volo("volo_d1", arguments, layers=(4, 4, 8, 2), embed_dims=(192, 384, 384, 384), num_heads=(6, 12, 12, 12))


@_register(image_size=16, patch_size=2)
def volo_mini(**arguments: Any) -> Volo:
    """Custom VOLO for images of 12 to 32 px: 0.3 M parameters, two outlookers and two transformer blocks."""
    return _volo(
        "volo_mini",
        arguments,
        layers=(2, 2),
        embed_dims=(32, 64),
        num_heads=(1, 2),
        downsamples=(True, False),
        outlook_attention=(True, False),
        initialize=initialize_narrow,
    )
