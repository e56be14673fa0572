"""Owns VOLO: timm's, with any stem in front, any feed-forward design within, and one forward that also mixes tokens.

VOLO (Yuan et al. 2021) turns patches into tokens, which outlookers refine; 2 x 2 of them are then merged, a position
embedding is added, transformer blocks follow, and two class-attention blocks gather the class token. Its dense
classifier `aux_head` classifies every token, for token labelling (Jiang et al. 2021).

Shapes: B images, H x W tokens after the merging, D the width, C classes.
"""

from collections.abc import Callable
from typing import Any

from timm.models import build_model_with_cfg
from timm.models.volo import VOLO, Outlooker, Transformer
from torch import Tensor, nn

from common.errors import UserError
from common.models.architectures import ARCHITECTURES, Architecture, Entry, register
from common.models.feed_forward import set_feed_forward
from common.models.initialisation import initialise_narrow
from common.models.stem_grammar import parse_stem
from common.models.stems import Stem, pair

default_cfgs: dict[str, Any] = {}
Box = tuple[int, int, int, int]
_MERGED = 2  # VOLO merges 2 x 2 tokens into one after its outlookers
_TIMM_PATCH = 8  # timm's constructor takes 4, 8 or 16: it is told of an image with as many patches of 8 pixels


class Volo(VOLO):  # type: ignore[misc]
    """Classify images (B, 3, S, S) of one size, a multiple of twice the patch.

    Only the stem differs from timm's VOLO, and the feed-forward blocks where `ffn` asks for it: those of the outlookers
    and transformer blocks. Scaled ReLU does not say whether the class-attention blocks change with them; they do not
    here, for BN of the single class token would depend on the other images alone.

    `num_classes=0` leaves out both classifiers; the class token after the last norm comes out.
    """

    def __init__(
        self,
        *,
        stem: str,
        stem_strides: tuple[int, ...] | None,
        patch_size: int,
        img_size: int | tuple[int, int],
        ffn: str = "mlp",
        initialise: Callable[[nn.Module], None] | None = None,
        embed_dims: tuple[int, ...],
        in_chans: int = 3,
        **options: Any,
    ) -> None:
        sides = pair(img_size)
        _refuse_unmerged(sides, patch_size)
        patches = tuple(side // patch_size * _TIMM_PATCH for side in sides)
        super().__init__(img_size=patches, patch_size=_TIMM_PATCH, embed_dims=embed_dims, in_chans=in_chans, **options)
        for stage in self.feature_info:
            stage["reduction"] = stage["reduction"] * patch_size // _TIMM_PATCH
        if initialise is not None:
            initialise(self)
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
        """Return (H, W), the grid of the tokens that the dense classifier sees and a box is counted in."""
        return self.pos_embed.shape[1], self.pos_embed.shape[2]

    def forward(self, images: Tensor, box: Box | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Return what the classifiers make of images; with a box, of the class token and of the tokens apart.

        `network(images)`: (B, C) logits of the class token + 0.5 * the largest over the tokens of each class's dense
        logits, as VOLO evaluates, in training and evaluation alike.

        `network(images, box)`: (B, C) logits of the class token and (B, H * W, C) dense logits, row by row, for token
        labelling. `box` = (top, left, bottom, right), the last two exclusive, in tokens of `token_grid`; an empty one,
        as (0, 0, 0, 0), mixes nothing. Otherwise (MixToken) images 2k and 2k + 1 exchange what lies within the box after the
        stem (twice as many rows and columns there), and the dense logits within it are exchanged back at the end.
        So `dense[i]` is of image i's own tokens everywhere, and is trained with image i's own dense labels; those within
        the box were computed in the partner's surroundings. The class token of row i saw image i outside the box and its
        partner within: its target is share * label_i + (1 - share) * label_partner, share = 1 - area of the box / (H * W).
        timm's `forward_train` does the same, but pairs row i with row B - 1 - i and draws the box itself.

        Errors: MixToken of an odd number of images.
        """
        if box is None:
            logits: Tensor = super().forward(images)
            return logits
        assert self.aux_head is not None, "token labelling needs classes"
        top, left, bottom, right = box
        assert 0 <= top <= bottom <= self.token_grid[0] and 0 <= left <= right <= self.token_grid[1], box
        patches = self.patch_embed(images).permute(0, 2, 3, 1)
        patches = exchange_box(patches, (_MERGED * top, _MERGED * left, _MERGED * bottom, _MERGED * right))
        tokens = self.norm(self.forward_cls(self.forward_tokens(patches)))
        tokens = self.head_drop(tokens)
        dense = self.aux_head(tokens[:, 1:]).unflatten(1, self.token_grid)
        return self.head(tokens[:, 0]), exchange_box(dense, box).flatten(1, 2)


def exchange_box(values: Tensor, box: Box) -> Tensor:
    """Return (B, H, W, ...) values with the box (top, left, bottom, right) exchanged between rows 2k and 2k + 1.

    Errors: an odd number of rows, unless the box is empty.
    """
    top, left, bottom, right = box
    if top >= bottom or left >= right:
        return values
    if len(values) % 2:
        raise UserError(
            f"train.batch_size: each process gets {len(values)} images, and MixToken pairs them; give an even number for each"
            " process, or turn MixToken off"
        )
    partners = values.reshape(-1, 2, *values.shape[1:]).flip(1).reshape(values.shape)
    mixed = values.clone()
    mixed[:, top:bottom, left:right] = partners[:, top:bottom, left:right]
    return mixed


def _refuse_unmerged(sides: tuple[int, int], patch_size: int) -> None:
    """Refuse an image whose patches cannot be merged 2 x 2."""
    multiple = _MERGED * patch_size
    for side in sides:
        if side % multiple or side < multiple:
            below = max(side // multiple, 1) * multiple
            raise UserError(
                f"data.image_size: {side} is no multiple of {multiple}, and VOLO merges 2 x 2 of its patches of {patch_size} px;"
                f" choose {below} or {below + multiple}, or another model.patch_size"
            )


def _volo(name: str, arguments: dict[str, Any], **size: Any) -> Volo:
    """Build a VOLO of this size from timm's keyword arguments, with `stem`, `stem_strides` and `ffn` among them."""
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


def _register(*, image_size: int, patch_size: int, stem: str = "conv") -> Callable[[Entry], Entry]:
    """Register a size under its function's name, here and with timm."""
    return register(
        default_cfgs,
        Architecture(image_size=image_size, patch_size=patch_size, stem=stem, any_size=False),
        first_convolution="patch_embed.conv.0",
        classifier=("head", "aux_head"),
    )


@_register(image_size=224, patch_size=8)
def volo_d1(**arguments: Any) -> Volo:
    """VOLO-D1: 26.6 M parameters with its own stem, which is Scaled ReLU's conv stem at patch 8."""
    return _volo("volo_d1", arguments, layers=(4, 4, 8, 2), embed_dims=(192, 384, 384, 384), num_heads=(6, 12, 12, 12))


@_register(image_size=16, patch_size=2)
def volo_mini(**arguments: Any) -> Volo:
    """A size of our own for images of 12 to 32 px: 0.3 M parameters, two outlookers and two transformer blocks."""
    return _volo(
        "volo_mini",
        arguments,
        layers=(2, 2),
        embed_dims=(32, 64),
        num_heads=(1, 2),
        downsamples=(True, False),
        outlook_attention=(True, False),
        initialise=initialise_narrow,
    )
