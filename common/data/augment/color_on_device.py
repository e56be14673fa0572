"""Color augmentation of a batch of views on the device: jitter, grayscale, blur and solarize of all crops in one pass.

The operations are those of `color.py`, which composes them. `apply_on_batch` runs eagerly; the function of `compiled_color` is one
graph of `torch.compile`, in which the blur is fused, too.
Shapes: N crops, P parameters of a view, C channels, H and W pixels.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from common.data.augment import parameters as columns
from common.data.augment.color import blur_kernels, blur_radius, color_maps, constants, for_channels
from common.fp32 import full_fp32

Blur = Callable[[Tensor, Tensor, int], Tensor]
"""(images, standard deviations (N,), largest radius) -> blurred images."""


class BatchColor(Protocol):
    """Color augmentation of a batch."""

    def __call__(self, crops: Tensor, parameters: Tensor, *, sigma_limit: float) -> Tensor:
        """Return (N, C, H, W) float32 in 0..255 from (N, C, H, W) crops and (N, P) parameters."""
        ...


def apply_on_batch(crops: Tensor, parameters: Tensor, *, sigma_limit: float) -> Tensor:
    """Return (N, C, H, W) float32 in 0..255 from (N, C, H, W) crops and (N, P) parameters, without synchronizing the device.

    `sigma_limit` is the largest standard deviation of a blur, in pixels. It determines the kernel size. Only uint8 is rounded.
    """
    parameters = parameters.to(crops.device)
    with full_fp32():
        return _apply(crops, parameters, constants(crops.device), sigma_limit, blur_by_convolution)


def compiled_color(backend: str = "inductor") -> BatchColor:
    """Return `apply_on_batch` as one graph of torch.compile per shape of crops, compiled at its first call.

    The constants are inputs of the graph, which would otherwise copy them to the device at every call. The blur is a sum of shifted
    images, which the compiler fuses, instead of a convolution with a kernel per channel of each image, which it does not.
    """
    graph = torch.compile(_apply, dynamic=False, fullgraph=True, backend=backend)

    def apply(crops: Tensor, parameters: Tensor, *, sigma_limit: float) -> Tensor:
        parameters = parameters.to(crops.device)
        with full_fp32():
            augmented: Tensor = graph(crops, parameters, constants(crops.device), sigma_limit, blur_by_shifts)
        return augmented

    return apply


def _apply(
    crops: Tensor, parameters: Tensor, of_device: tuple[Tensor, Tensor, Tensor], sigma_limit: float, blur: Blur
) -> Tensor:
    """Return the augmented crops, given the `constants` of their device."""
    channels = crops.shape[1]
    rounds = not crops.is_floating_point()
    linear, from_mean, constant, hue = color_maps(parameters, of_device)
    linear, from_mean = for_channels(linear, from_mean, channels)
    constant = constant if rounds else torch.zeros_like(constant)
    images = _map_batch(crops.float(), linear[:, 0], from_mean[:, 0], constant[:, 0], rounds=rounds)
    if channels == 3:
        shifted = _shift_hue_batch(images, hue.float(), rounds=rounds)
        images = torch.where(hue[:, None, None, None] > 0, shifted, images)
        images = _map_batch(images, linear[:, 1], from_mean[:, 1], constant[:, 1], rounds=rounds)
    if sigma_limit > 0:
        images = blur(images, parameters[:, columns.BLUR_SIGMA], blur_radius(sigma_limit))
        images = images.round_() if rounds else images
    solarized = parameters[:, columns.SOLARIZE, None, None, None] > 0
    return torch.where(solarized & (images >= 128), 255 - images, images)


def _map_batch(images: Tensor, linear: Tensor, from_mean: Tensor, constant: Tensor, *, rounds: bool) -> Tensor:
    """Return each image's pixels as A x + K m + c, clamped to 0..255, and rounded."""
    offset = from_mean @ images.mean(dim=(2, 3))[:, :, None] + constant[:, None, None]
    mapped: Tensor = linear @ images.flatten(2) + offset
    return (mapped.round_() if rounds else mapped).clamp_(0, 255).view_as(images)


def _shift_hue_batch(images: Tensor, shifts: Tensor, *, rounds: bool) -> Tensor:
    """Return each image with its hue shifted by its own (N,) steps; if it `rounds`, with the arithmetic of Pillow's 8-bit HSV."""

    def floor(values: Tensor) -> Tensor:
        return values.floor() if rounds else values

    value, least = images.amax(dim=1), images.amin(dim=1)
    span = value - least
    red, green, blue = ((value[:, None] - images) / span.clamp(min=1 if rounds else 1e-6)[:, None]).unbind(dim=1)
    sector = torch.where(red == 0, blue - green, torch.where(green == 0, 2 + red - blue, 4 + green - red))
    hue = torch.where(span > 0, floor(sector.remainder(6) * 42.5), 0)
    hue = (hue + shifts[:, None, None]).remainder(256 if rounds else 255) / 42.5
    chroma = value * floor(span / value.clamp(min=1 if rounds else 1e-6) * 255) / 255
    channels = []
    for first in (5, 3, 1):
        sextant = (first + hue).remainder(6)
        channels.append(value - chroma * torch.minimum(sextant, 4 - sextant).clamp(0, 1))
    shifted = torch.stack(channels, dim=1)
    return shifted.round_() if rounds else shifted


def blur_by_convolution(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each (C, H, W) image with its own standard deviation and replicated edges; 0 leaves an image unchanged."""
    num_images, channels, height, width = images.shape
    kernels = blur_kernels(sigma, radius).repeat_interleave(channels, dim=0)[:, None, None, :]
    planes = images.reshape(1, num_images * channels, height, width)
    for kernel, padding in ((kernels, (radius, radius, 0, 0)), (kernels.transpose(2, 3), (0, 0, radius, radius))):
        planes = F.conv2d(F.pad(planes, padding, mode="replicate"), kernel, groups=num_images * channels)
    return planes.view_as(images)


def blur_by_shifts(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur as `blur_by_convolution`, up to the order of the sum: add the images shifted by each distance times its weight."""
    weights = blur_kernels(sigma, radius)[:, :, None, None, None].unbind(dim=1)
    for dim, padding in ((3, (radius, radius, 0, 0)), (2, (0, 0, radius, radius))):
        padded, length = F.pad(images, padding, mode="replicate"), images.shape[dim]
        images = sum(
            (weight * padded.narrow(dim, first, length) for first, weight in enumerate(weights)),
            start=torch.zeros_like(images),
        )
    return images
