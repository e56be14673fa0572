"""Owns the photometry of DINO's views: colour jitter, grey, blur and solarize, defined once and run by two executors.

Brightness, contrast, saturation and grey are affine maps of a pixel, x -> A x + K m + c, with m the crop's mean colour.
Those before the hue in the drawn order are composed to one map, those after it to another; values are rounded and cut
to 0..255 after each map, not after each step; c makes up for Pillow, whose steps cut fractions off. The hue turns in
HSV, as Pillow does it: a rotation in YIQ would make one map of all, but takes strong colours elsewhere (3.4 of 255 on
average on CIFAR-10, against 0.2). Then blur and solarize.
`apply_on_crop` runs it by OpenCV on one uint8 crop in a worker, `apply_on_batch` by torch on a batch on the device.
Shapes: N crops, P numbers of a record, S pixels.
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

_LUMA = (0.299, 0.587, 0.114)
_HUE = 3
_CUT_OFF = -0.499
"""What a step of Pillow's adds on average, as it cuts off where we round; a little less keeps whole numbers whole."""
_SOLARIZE_TABLE = np.where(np.arange(256) < 128, np.arange(256), 255 - np.arange(256)).astype(np.uint8)


class CropSteps(NamedTuple):
    """Hold what a worker does to one crop."""

    before: tuple[Any, Any | None] | None
    """A and K of the map before the hue, (3, 4) with c as the last column; no K where it is 0; none where it changes nothing."""
    hue: int
    """Steps of 1/255 turn, modulo 256; 0 for none."""
    after: tuple[Any, Any | None] | None
    """The same of the map after the hue."""
    kernel: Any
    """Weights of the blur along a line; none for no blur."""
    solarize: bool


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the identity, the map to grey and the orders of the steps; kept, as each copy to a device waits for it."""
    to_grey = torch.tensor(_LUMA, dtype=torch.float64).expand(3, 3)
    return torch.eye(3, dtype=torch.float64, device=device), to_grey.to(device), torch.tensor(columns.ORDERS).to(device)


def colour_maps(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return what the colour steps of (N, P) records compose to: A and K, (N, 2, 3, 3) float32, c, (N, 2), and the hue's steps.

    Index 0 of A and K is the map before the hue, 1 the one after it; the steps are (N,), of 1/255 turn, modulo 256.
    A step x -> a x + b mean(x) turns (A, K) into (a A, a K + b (A + K)); only contrast has a b. c is what the cutting off
    of Pillow's steps adds up to. Without a hue all is in the first map.
    """
    wide = parameters.double()
    identity, to_grey, orders = _constants(parameters.device)
    brightness, contrast, saturation = (
        wide[:, column, None, None] for column in (columns.BRIGHTNESS, columns.CONTRAST, columns.SATURATION)
    )
    own = torch.stack(
        [
            brightness * identity,
            contrast * identity,
            saturation * identity + (1 - saturation) * to_grey,
            identity.expand(len(wide), 3, 3),
            torch.where(wide[:, columns.GREY, None, None] > 0, to_grey, identity),
        ],
        dim=1,
    )
    of_mean = torch.zeros_like(own)
    of_mean[:, 1] = (1 - contrast) * to_grey
    order = F.pad(orders[wide[:, columns.ORDER].long()], (0, 1), value=4)
    hue = torch.trunc(wide[:, columns.HUE] * 255)
    is_after = (order == _HUE).cumsum(dim=1).bool() & (hue != 0)[:, None]
    row = torch.arange(len(wide), device=wide.device)
    linear = identity.repeat(len(wide), 2, 1, 1)
    from_mean = torch.zeros_like(linear)
    constant = torch.zeros_like(linear[:, :, 0, 0])
    gains = (own + of_mean)[:, :, 0].sum(dim=2)
    # A slice: a list of columns would be copied to the device, and the processor would wait for it.
    factors = wide[:, columns.BRIGHTNESS : columns.SATURATION + 1]
    cut = F.pad(factors != 1, (0, 2)) * _CUT_OFF
    for place in range(5):
        part = is_after[:, place].long()
        a, b = own[row, order[:, place]], of_mean[row, order[:, place]]
        constant[row, part] = gains[row, order[:, place]] * constant[row, part] + cut[row, order[:, place]]
        former, former_mean = linear[row, part], from_mean[row, part]
        linear[row, part], from_mean[row, part] = a @ former, a @ former_mean + b @ (former + former_mean)
    return linear.float(), from_mean.float(), constant.float(), hue.remainder(256)


def blur_radius(sigma: float) -> int:
    """Return how many pixels to each side of its centre the blur's kernel reaches: three standard deviations."""
    return math.ceil(3 * sigma)


def blur_kernels(sigma: Tensor, radius: int) -> Tensor:
    """Return (N, 2 * radius + 1) float32 Gaussian weights, zero beyond each one's own radius; no blur at sigma 0."""
    distance = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float64)
    wide = sigma.double()[:, None]
    weights = torch.exp(-0.5 * (distance / wide.clamp(min=1e-3)) ** 2)
    weights = torch.where(distance.abs() <= torch.ceil(3 * wide), weights, 0.0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def crop_steps(parameters: Tensor) -> list[CropSteps]:
    """Return what each of (N, P) records asks for, as `apply_on_crop` takes it."""
    linear, from_mean, constant, hue = colour_maps(parameters)
    of_mean = from_mean.flatten(2).any(dim=2)
    changes = (linear != torch.eye(3)).flatten(2).any(dim=2) | of_mean
    sigmas = parameters[:, columns.SIGMA]
    radius = blur_radius(sigmas.max().item())
    constants = constant[:, :, None, None].expand(-1, -1, 3, 1)
    linear, from_mean = (torch.cat([part, constants], dim=3) for part in (linear, from_mean))
    maps = zip(linear.numpy(), from_mean.numpy(), changes.tolist(), of_mean.tolist(), strict=True)
    kernels = zip(blur_kernels(sigmas, radius).numpy(), sigmas.tolist(), strict=True)
    rest = zip(hue.int().tolist(), (parameters[:, columns.SOLARIZE] > 0).tolist(), strict=True)
    return [
        CropSteps(
            before=(a[0], k[0] if uses_mean[0] else None) if before else None,
            hue=turn,
            after=(a[1], k[1] if uses_mean[1] else None) if after else None,
            kernel=kernel[radius - blur_radius(sigma) : radius + blur_radius(sigma) + 1] if sigma else None,
            solarize=solarize,
        )
        for (a, k, (before, after), uses_mean), (kernel, sigma), (turn, solarize) in zip(
            maps, kernels, rest, strict=True
        )
    ]


def apply_on_crop(crop: Any, steps: CropSteps) -> Any:
    """Return an (S, S, 3) uint8 crop after its colour steps, blur and solarize."""
    if steps.before is not None:
        crop = _map_crop(crop, *steps.before)
    if steps.hue:
        crop = _turn_crop(crop, steps.hue)
    if steps.after is not None:
        crop = _map_crop(crop, *steps.after)
    if steps.kernel is not None:
        # Equal to GaussianBlur to a rounding, and more than twice as fast on 8 bits.
        crop = cv2.sepFilter2D(crop, -1, steps.kernel, steps.kernel, borderType=cv2.BORDER_REPLICATE)
    return cv2.LUT(crop, _SOLARIZE_TABLE) if steps.solarize else crop


def _map_crop(crop: Any, linear: Any, from_mean: Any | None) -> Any:
    """Return the crop's pixels as A x + K m + c, from A and K with c as their last column, which in A is overwritten."""
    if from_mean is not None:
        mean = np.array(cv2.mean(crop), dtype=np.float32)
        mean[3] = 1
        linear[:, 3] = from_mean @ mean
    return cv2.transform(crop, linear)


def _turn_crop(crop: Any, turn: int) -> Any:
    """Return the crop with its hue turned by so many steps, through OpenCV's 8-bit HSV."""
    turned = cv2.cvtColor(crop, cv2.COLOR_RGB2HSV_FULL)
    # Whole rows are added, which is vectorised and wraps around, where a sum over one channel is not.
    rows = turned.reshape(len(crop), -1)
    rows += _hue_row(turn, crop.shape[1])
    return cv2.cvtColor(turned, cv2.COLOR_HSV2RGB_FULL)


@lru_cache(maxsize=1024)
def _hue_row(turn: int, width: int) -> Any:
    """Return what turns the hue of `width` pixels of HSV, (3 * width,) uint8; kept, as it takes longer than to add it."""
    return np.tile(np.array([turn, 0, 0], dtype=np.uint8), width)


def apply_on_batch(crops: Tensor, parameters: Tensor, *, sigma_limit: float) -> Tensor:
    """Return (N, 3, S, S) float32 in 0..255 from (N, 3, S, S) uint8 crops and (N, P) records; never wait for a device.

    `sigma_limit` is the largest standard deviation a blur may have, in pixels: it fixes the kernel's size.
    """
    parameters = parameters.to(crops.device)
    linear, from_mean, constant, hue = colour_maps(parameters)
    images = _map_batch(crops.float(), linear[:, 0], from_mean[:, 0], constant[:, 0])
    images = torch.where(hue[:, None, None, None] > 0, _turn_batch(images, hue.float()), images)
    images = _map_batch(images, linear[:, 1], from_mean[:, 1], constant[:, 1])
    if sigma_limit > 0:
        images = _blur(images, parameters[:, columns.SIGMA], blur_radius(sigma_limit))
    solarized = parameters[:, columns.SOLARIZE, None, None, None] > 0
    return torch.where(solarized & (images >= 128), 255 - images, images)


def _map_batch(images: Tensor, linear: Tensor, from_mean: Tensor, constant: Tensor) -> Tensor:
    """Return each image's pixels as A x + K m + c, whole values in 0..255."""
    offset = from_mean @ images.mean(dim=(2, 3))[:, :, None] + constant[:, None, None]
    mapped: Tensor = linear @ images.flatten(2) + offset
    return mapped.round_().clamp_(0, 255).view_as(images)


def _turn_batch(images: Tensor, turns: Tensor) -> Tensor:
    """Return each image with its hue turned by its own (N,) steps, in the numbers of Pillow's 8-bit HSV."""
    value, least = images.amax(dim=1), images.amin(dim=1)
    span = value - least
    red, green, blue = ((value[:, None] - images) / span.clamp(min=1)[:, None]).unbind(dim=1)
    sector = torch.where(red == 0, blue - green, torch.where(green == 0, 2 + red - blue, 4 + green - red))
    hue = torch.where(span > 0, (sector.remainder(6) * 42.5).floor(), 0)
    hue = (hue + turns[:, None, None]).remainder(256) / 42.5
    chroma = value * (span / value.clamp(min=1) * 255).floor() / 255
    channels = []
    for first in (5, 3, 1):
        place = (first + hue).remainder(6)
        channels.append(value - chroma * torch.minimum(place, 4 - place).clamp(0, 1))
    return torch.stack(channels, dim=1).round_()


def _blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each (3, S, S) image with its own standard deviation, edges repeated; 0 leaves an image as it is."""
    num_images, channels, height, width = images.shape
    kernels = blur_kernels(sigma, radius).repeat_interleave(channels, dim=0)[:, None, None, :]
    planes = images.reshape(1, num_images * channels, height, width)
    for kernel, padding in ((kernels, (radius, radius, 0, 0)), (kernels.transpose(2, 3), (0, 0, radius, radius))):
        planes = F.conv2d(F.pad(planes, padding, mode="replicate"), kernel, groups=num_images * channels)
    return planes.view_as(images).round_()
