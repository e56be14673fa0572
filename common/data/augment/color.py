"""Color augmentation of DINO's views: color jitter, grayscale, blur and solarize; their composition, and execution on a CPU.

Brightness, contrast, saturation and grayscale are affine maps of a pixel, x -> A x + K m + c, where m is the crop's mean color.
The operations before the hue in the drawn order are composed into one map, those after it into another. Values are rounded and
clamped to 0..255 after each map, not after each operation; c compensates for Pillow, which truncates after every operation. The
hue is shifted in HSV, as in Pillow: a rotation in YIQ would merge everything into a single map, but it maps saturated colors
differently (mean error 3.4 of 255 on CIFAR-10, compared with 0.2). Blur and solarize follow.
`apply_on_crop` runs in a worker on one crop with OpenCV, `apply_on_batch` on the device on a batch with torch
(`color_on_device.py`). Images of C != 3 channels have brightness, contrast, blur and solarize alone, those of 16 bits are float32
in 0..255 and not rounded.
Shapes: N crops, P parameters of a view, C channels, H and W pixels.
"""

import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.augment import parameters as columns
from common.data.augment.planes import apply_color, is_rgb8

_LUMA = (0.299, 0.587, 0.114)
_HUE = 3
_TRUNCATION = -0.499
"""Mean offset of truncation (Pillow) from rounding (here); slightly less than 0.5 in size, so that integers are unchanged."""
_SOLARIZE_TABLE = np.where(np.arange(256) < 128, np.arange(256), 255 - np.arange(256)).astype(np.uint8)


class ColorOps(NamedTuple):
    """Color operations on one crop, as a worker executes them."""

    before: tuple[Any, Any | None] | None
    """A and K of the map before the hue, (C, C + 1) with c as the last column. K is None if it is 0, the map None if it is the
    identity."""
    hue: int
    """Hue shift in steps of 1/255 turn, modulo 256; 0 for none."""
    after: tuple[Any, Any | None] | None
    """A and K of the map after the hue, in the same form."""
    kernel: Any
    """1-D weights of the separable blur; None for no blur."""
    solarize: bool


_NO_COLOR = ColorOps(before=None, hue=0, after=None, kernel=None, solarize=False)


@cache
def constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the identity, the grayscale map and the operation orders; cached, because each copy to a device synchronizes."""
    to_gray = torch.tensor(_LUMA, dtype=torch.float64).expand(3, 3)
    return torch.eye(3, dtype=torch.float64, device=device), to_gray.to(device), torch.tensor(columns.ORDERS).to(device)


def color_maps(
    parameters: Tensor, constants_of_device: tuple[Tensor, Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compose the color operations of (N, P) parameters; return A and K (N, 2, 3, 3) float32, c (N, 2) and the hue shift (N,).

    Index 0 of A, K and c is the map before the hue, index 1 the map after it. The hue shift is in steps of 1/255 turn, modulo 256.
    An operation x -> a x + b mean(x) turns (A, K) into (a A, a K + b (A + K)); only contrast has a b. c accumulates the truncation
    of Pillow's operations. Without a hue shift, everything is in the first map. A compiled caller passes the `constants`.
    """
    exact = parameters.double()
    identity, to_gray, orders = constants_of_device or constants(parameters.device)
    brightness, contrast, saturation = (
        exact[:, column, None, None] for column in (columns.BRIGHTNESS, columns.CONTRAST, columns.SATURATION)
    )
    linear_parts = torch.stack(
        [
            brightness * identity,
            contrast * identity,
            saturation * identity + (1 - saturation) * to_gray,
            identity.expand(len(exact), 3, 3),
            torch.where(exact[:, columns.GRAYSCALE, None, None] > 0, to_gray, identity),
        ],
        dim=1,
    )
    mean_parts = torch.zeros_like(linear_parts)
    mean_parts[:, 1] = (1 - contrast) * to_gray
    order = F.pad(orders[exact[:, columns.ORDER].long()], (0, 1), value=4)
    hue = torch.trunc(exact[:, columns.HUE] * 255)
    after_hue = (order == _HUE).cumsum(dim=1).bool() & (hue != 0)[:, None]
    row = torch.arange(len(exact), device=exact.device)
    linear = identity.repeat(len(exact), 2, 1, 1)
    from_mean = torch.zeros_like(linear)
    constant = torch.zeros_like(linear[:, :, 0, 0])
    gains = (linear_parts + mean_parts)[:, :, 0].sum(dim=2)
    # A slice, because a list of columns would be copied to the device and synchronize.
    factors = exact[:, columns.BRIGHTNESS : columns.SATURATION + 1]
    truncation = F.pad(factors != 1, (0, 2)) * _TRUNCATION
    for position in range(5):
        part, operation = after_hue[:, position].long(), order[:, position]
        a, b = linear_parts[row, operation], mean_parts[row, operation]
        constant[row, part] = gains[row, operation] * constant[row, part] + truncation[row, operation]
        previous, previous_mean = linear[row, part], from_mean[row, part]
        linear[row, part], from_mean[row, part] = a @ previous, a @ previous_mean + b @ (previous + previous_mean)
    return linear.float(), from_mean.float(), constant.float(), hue.remainder(256)


def blur_radius(sigma: float) -> int:
    """Return the radius of the blur kernel in pixels: three standard deviations, rounded up."""
    return math.ceil(3 * sigma)


def blur_kernels(sigma: Tensor, radius: int) -> Tensor:
    """Return (N, 2 * radius + 1) float32 Gaussian weights, zero beyond each kernel's own radius; sigma 0 is no blur."""
    distance = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float64)
    sigma_N1 = sigma.double()[:, None]
    weights = torch.exp(-0.5 * (distance / sigma_N1.clamp(min=1e-3)) ** 2)
    weights = torch.where(distance.abs() <= torch.ceil(3 * sigma_N1), weights, 0.0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def for_channels(linear: Tensor, from_mean: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """Return A and K (..., 3, 3) of brightness and contrast as multiples of the identity (..., C, C); unchanged for 3 channels.

    A is a multiple of the identity already. K m is the same for every channel, a multiple of the mean gray level: for other
    channels than RGB, a multiple of the channel's own mean.
    """
    if channels == 3:
        return linear, from_mean
    identity = torch.eye(channels, dtype=linear.dtype, device=linear.device)
    return linear[..., :1, :1] * identity, from_mean[..., :1, :].sum(-1, keepdim=True) * identity


def _changes_nothing(parameters: Tensor) -> bool:
    """Return whether every row of (N, P) parameters leaves colors alone, as where the recipe has no color augmentation."""
    values = parameters.numpy()
    factors = values[:, columns.BRIGHTNESS : columns.SATURATION + 1]
    others = values[:, [columns.HUE, columns.GRAYSCALE, columns.BLUR_SIGMA, columns.SOLARIZE]]
    return bool((factors == 1).all() and not others.any())


def color_ops(parameters: Tensor, channels: int = 3) -> list[ColorOps]:
    """Return the color operations of each row of (N, P) parameters, as `apply_on_crop` takes them."""
    if _changes_nothing(parameters):
        return [_NO_COLOR] * len(parameters)
    linear, from_mean, constant, hue = color_maps(parameters)
    linear, from_mean = for_channels(linear, from_mean, channels)
    has_mean = from_mean.flatten(2).any(dim=2)
    changes = (linear != torch.eye(channels)).flatten(2).any(dim=2) | has_mean
    sigmas = parameters[:, columns.BLUR_SIGMA]
    radius = blur_radius(sigmas.max().item())
    constants = constant[:, :, None, None].expand(-1, -1, channels, 1)
    linear, from_mean = (torch.cat([part, constants], dim=3) for part in (linear, from_mean))
    maps = zip(linear.numpy(), from_mean.numpy(), changes.tolist(), has_mean.tolist(), strict=True)
    kernels = zip(blur_kernels(sigmas, radius).numpy(), sigmas.tolist(), strict=True)
    rest = zip(hue.int().tolist(), (parameters[:, columns.SOLARIZE] > 0).tolist(), strict=True)
    return [
        ColorOps(
            before=(a[0], k[0] if use_mean[0] else None) if before else None,
            hue=shift,
            after=(a[1], k[1] if use_mean[1] else None) if after else None,
            kernel=kernel[radius - blur_radius(sigma) : radius + blur_radius(sigma) + 1] if sigma else None,
            solarize=solarize,
        )
        for (a, k, (before, after), use_mean), (kernel, sigma), (shift, solarize) in zip(
            maps, kernels, rest, strict=True
        )
    ]


def apply_on_crop(crop: Any, ops: ColorOps) -> Any:
    """Return an (H, W, C) crop, uint8 or float32, with its color operations, blur and solarize applied."""
    if not is_rgb8(crop):
        return apply_color(crop, ops)
    if ops.before is not None:
        crop = _map_crop(crop, *ops.before)
    if ops.hue:
        crop = _shift_hue(crop, ops.hue)
    if ops.after is not None:
        crop = _map_crop(crop, *ops.after)
    if ops.kernel is not None:
        # Equals GaussianBlur up to rounding, and is more than twice as fast on 8 bits.
        crop = cv2.sepFilter2D(crop, -1, ops.kernel, ops.kernel, borderType=cv2.BORDER_REPLICATE)
    return cv2.LUT(crop, _SOLARIZE_TABLE) if ops.solarize else crop


def _map_crop(crop: Any, linear: Any, from_mean: Any | None) -> Any:
    """Return the crop's pixels as A x + K m + c, from A and K with c as last column; overwrites the last column of A."""
    if from_mean is not None:
        mean = np.array(cv2.mean(crop), dtype=np.float32)
        mean[3] = 1
        linear[:, 3] = from_mean @ mean
    return cv2.transform(crop, linear)


def _shift_hue(crop: Any, shift: int) -> Any:
    """Return the crop with its hue shifted by `shift` steps, through OpenCV's 8-bit HSV."""
    hsv = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV_FULL)
    # Adding complete rows is vectorized and wraps around; adding to one channel is not vectorized.
    rows = hsv.reshape(len(crop), -1)
    rows += _hue_row(shift, crop.shape[1])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


@lru_cache(maxsize=1024)
def _hue_row(shift: int, width: int) -> Any:
    """Return the (3 * width,) uint8 row that shifts the hue of `width` HSV pixels; cached, because building it is the slow part."""
    return np.tile(np.array([shift, 0, 0], dtype=np.uint8), width)
