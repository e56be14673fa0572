"""Operations of OpenCV on images that are not RGB of 8 bits: any number of channels, uint8 or float32 in 0..255.

OpenCV takes at most four channels in most of its functions, and returns one channel without its axis. Here every channel is an
image of its own. Shapes: H and W pixels, C channels.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from common.data.augment.color import ColorOps


def is_rgb8(pixels: Any) -> bool:
    """Return whether an (H, W, C) image is RGB of 8 bits, which OpenCV and the C++ kernel take as it is."""
    return bool(pixels.dtype == np.uint8 and pixels.shape[2] == 3)


def by_planes(function: Callable[[Any], Any], pixels: Any) -> Any:
    """Return the image whose channels are what an operation returns for each channel (H, W); float32 stays in 0..255."""
    channels = [function(np.ascontiguousarray(pixels[..., channel])) for channel in range(pixels.shape[2])]
    changed = np.stack(channels, axis=2)
    return changed.clip(0, 255) if changed.dtype == np.float32 else changed


def empty_block(images: Any, num_views: int, size: tuple[int, int]) -> Tensor:
    """Return an uninitialized (V, B, C, height, width) block for views of B images: uint8, for those of 16 bits float32."""
    dtype = torch.uint8 if images[0].dtype == np.uint8 else torch.float32
    return torch.empty((num_views, len(images), images[0].shape[2], *size), dtype=dtype)


def write_view(view: Any, target: Any) -> None:
    """Write an (H, W, C) view into its (C, H, W) place in a block."""
    if is_rgb8(view):
        cv2.split(view, list(target))
    else:
        target[...] = np.moveaxis(view, 2, 0)


def apply_color(crop: Any, ops: "ColorOps") -> Any:
    """Return an (H, W, C) crop with its color operations, blur and solarize applied (`color.apply_on_crop`).

    For another number of channels than 3, A and K are multiples of the identity: the contrast of each channel changes about its own
    mean, and there is no hue. float32 is not rounded.
    """
    if ops.before is not None:
        crop = _map(crop, *ops.before)
    if ops.hue:
        crop = _shift_hue(crop, ops.hue)
    if ops.after is not None:
        crop = _map(crop, *ops.after)
    if ops.kernel is not None:
        kernel = ops.kernel
        crop = by_planes(
            lambda plane: cv2.sepFilter2D(plane, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE), crop
        )
    if ops.solarize:
        crop = np.where(crop >= 128, 255 - crop, crop).astype(crop.dtype, copy=False)
    return crop


def _map(crop: Any, linear: Any, from_mean: Any | None) -> Any:
    """Return A x + K m + c; float32 without c, which stands for the truncation of 8 bits."""
    channels, is_float = crop.shape[2], crop.dtype == np.float32
    offset = np.zeros(channels, np.float32) if is_float else linear[:, channels].copy()
    if from_mean is not None:
        offset = from_mean[:, :channels] @ crop.mean(axis=(0, 1), dtype=np.float32)
        offset += 0 if is_float else from_mean[:, channels]
    mapped = (crop.astype(np.float32) @ linear[:, :channels].T + offset).clip(0, 255)
    return mapped.astype(np.float32) if is_float else np.rint(mapped).astype(np.uint8)


def _shift_hue(crop: Any, shift: int) -> Any:
    """Return float32 RGB with its hue shifted by `shift` steps of 1/255 turn, through OpenCV's HSV of floating-point numbers."""
    hsv = cv2.cvtColor(np.ascontiguousarray(crop) / np.float32(255), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 360 * shift / 255) % 360
    return (255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).clip(0, 255)
