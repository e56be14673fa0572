"""The stem module, built from any name of the stem grammar, with the interface of timm's `embed_layer`.

Shapes: B images, H x W pixels, D the width of the network, L = H/patch * W/patch tokens.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import to_2tuple
from torch import Tensor, nn

from common.errors import UserError
from common.models.batch_norm import check_batch
from common.models.stem_registry import StemSpec, parse_stem, stem_problems

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"ReLU": partial(nn.ReLU, inplace=True), "GELU": nn.GELU}


class Stem(nn.Module):
    """Turn images (B, 3, H, W) into tokens (B, L, D), or (B, H/patch, W/patch, D) with `output_fmt="NHWC"`,
    or (B, D, H/patch, W/patch) with "NCHW".

    Convolutions pad with kernel // 2, so that any stride divides the size exactly; they have no bias, the projection
    has one. The interface is that of the `embed_layer` in timm's VisionTransformer. With `strict_img_size=False`, any size
    that is a multiple of the patch size is accepted. Parameters are named as in VOLO: `conv`, `proj`.
    """

    def __init__(
        self,
        spec: StemSpec,
        strides: tuple[int, ...] | None = None,
        *,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        bias: bool = True,
        strict_img_size: bool = True,
        dynamic_img_pad: bool = False,
        output_fmt: str = "NLC",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        assert output_fmt in ("NLC", "NHWC", "NCHW") and not dynamic_img_pad, (
            "an option of timm that no network of this project uses"
        )
        self.spec, self.output_fmt = spec, output_fmt
        self.for_gpu = False
        """Whether to compute in the layouts of a GPU's matrix units, with the same result up to rounding (`_gpu_tokens`)."""
        self.patch_size: tuple[int, int] = to_2tuple(patch_size)
        if self.patch_size[0] != self.patch_size[1]:
            raise UserError(f"model.patch_size: {self.patch_size} is not square; set one number")
        for field, message in stem_problems(spec.name, strides, self.patch_size[0]):
            raise UserError(f"model.{field}: {message}")
        self.strides = spec.strides(self.patch_size[0]) if strides is None else tuple(strides)
        self.strict_img_size = strict_img_size
        self.set_input_size(img_size)
        factory_kwargs: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        width = in_chans
        for kernel, channels, stride in zip(spec.kernels, spec.channels, self.strides, strict=False):
            layers += [nn.Conv2d(width, channels, kernel, stride, kernel // 2, bias=False, **factory_kwargs)]
            layers += _norm_and_activation(spec.norm, spec.activation, channels, factory_kwargs)
            width = channels
        self.conv = nn.Sequential(*layers)
        self.proj = nn.Conv2d(width, embed_dim, self.strides[-1], self.strides[-1], bias=bias, **factory_kwargs)
        self.after = nn.Sequential(
            *_norm_and_activation(spec.projection_norm, spec.projection_activation, embed_dim, factory_kwargs)
        )
        self._reduction: int | None = None
        """Factor of the sides at the last batch norm, if there is any."""
        if spec.projection_norm:
            self._reduction = math.prod(self.strides)
        elif spec.norm and spec.kernels:
            self._reduction = math.prod(self.strides[:-1])
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize the convolutions as in the stem's paper, if it deviates from PyTorch's defaults.

        Early Convolutions, appendix: 3x3 normal with sigma = sqrt(2 / out), projection normal with sigma =
        sqrt(1 / out) and zero bias. (timm initializes linear layers again and calls any `init_weights`: a stem has neither.)
        """
        if not self.spec.xiao_initialization:
            return
        for layer in self.conv:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=math.sqrt(2 / layer.out_channels))
        nn.init.normal_(self.proj.weight, std=math.sqrt(1 / self.proj.out_channels))
        if self.proj.bias is not None:
            nn.init.zeros_(self.proj.bias)

    def set_input_size(
        self, img_size: int | tuple[int, int] | None = None, patch_size: int | tuple[int, int] | None = None
    ) -> None:
        """Set the image size, from which the token grid follows. The patch size cannot be changed."""
        if patch_size is not None and to_2tuple(patch_size) != self.patch_size:
            raise UserError(
                f"model.patch_size: {patch_size} is not the {self.patch_size[0]} of this stem; build a new network"
            )
        if img_size is not None:
            self.img_size: tuple[int, int] = to_2tuple(img_size)
            self._check_image_size(*self.img_size)
            self.grid_size = self.dynamic_feat_size(self.img_size)
            self.num_patches = self.grid_size[0] * self.grid_size[1]

    def feat_ratio(self, as_scalar: bool = True) -> int | tuple[int, int]:
        """Return the number of pixels per token along each side."""
        return self.patch_size[0] if as_scalar else self.patch_size

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Return the token grid (rows, columns) of an image of this size."""
        return img_size[0] // self.patch_size[0], img_size[1] // self.patch_size[1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the tokens of a batch.

        Raise UserError for a size that is no multiple of the patch or not the configured one, and for a batch that batch norm
        cannot be trained on.
        """
        height, width = images.shape[-2:]
        if self.strict_img_size and (height, width) != self.img_size:
            raise UserError(
                f"data.image_size: the images are {height}x{width}, but the network is built for {self.img_size}"
            )
        self._check_image_size(height, width)
        if self.training and self._reduction is not None:
            check_batch(images, self._reduction)
        tokens: Tensor = self._gpu_tokens(images) if self.for_gpu else self.after(self.proj(self.conv(images)))
        if self.output_fmt == "NCHW":
            return tokens
        return tokens.permute(0, 2, 3, 1) if self.output_fmt == "NHWC" else tokens.flatten(2).transpose(1, 2)

    def _gpu_tokens(self, images: Tensor) -> Tensor:
        """Return the tokens (B, D, H/patch, W/patch): convolutions on channels-last activations, the projection as one product.

        The weights keep their layout, and so do optimizer moments and checkpoints. The projection's kernel is as large as its
        stride, so its patches are those of a product; for such a convolution cuDNN chose a slow kernel (9 of a DINO step's 202 ms).
        """
        if len(self.conv):
            images = images.contiguous(memory_format=torch.channels_last)
        maps, stride = self.conv(images), self.proj.stride[0]
        patches = maps.unflatten(3, (-1, stride)).unflatten(2, (-1, stride)).permute(0, 2, 4, 1, 3, 5).flatten(3)
        tokens = F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)
        return self.after(tokens.permute(0, 3, 1, 2))  # type: ignore[no-any-return]

    def _check_image_size(self, height: int, width: int) -> None:
        """Raise UserError unless patches tile the image; a convolution would silently drop or pad its border."""
        patch = self.patch_size[0]
        for side in (height, width):
            if side % patch or side < patch:
                below = max(side // patch, 1) * patch
                raise UserError(
                    f"data.image_size: {side} is not a multiple of the patch size {patch};"
                    f" set {below} or {below + patch}, or another model.patch_size"
                )


def _norm_and_activation(
    norm: bool, activation: str | None, width: int, factory_kwargs: dict[str, Any]
) -> list[nn.Module]:
    """Return the layers after a convolution: BN, activation, both or none."""
    layers: list[nn.Module] = [nn.BatchNorm2d(width, **factory_kwargs)] if norm else []
    return layers + ([_ACTIVATIONS[activation]()] if activation else [])


def build_stem_layer(name: str, strides: tuple[int, ...] | None = None) -> Callable[..., Stem]:
    """Return the `embed_layer` for timm's VisionTransformer: a stem by name, with the given or its default strides."""
    return partial(Stem, parse_stem(name), strides)
