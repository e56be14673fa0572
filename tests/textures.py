"""Images for tests of duplicates: with detail at several scales, as photographs have it, and changed copies of them."""

import cv2
import numpy as np

from common.data.images import ImageArray


def textures(number: int, *, seed: int, side: int = 64, strength: float = 40) -> list[ImageArray]:
    """Return images with the spectrum of photographs: the sum of noise at several scales."""
    generator = np.random.default_rng(seed)
    images = []
    for _ in range(number):
        image = np.full((side, side, 3), 128, np.float32)
        for scale in (4, 8, 16, 32):
            noise = generator.normal(size=(scale, scale, 3)).astype(np.float32) * strength * (4 / scale) ** 0.5
            image += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return images


def recompress(image: ImageArray, quality: int) -> ImageArray:
    """Return the image after JPEG compression."""
    coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)


def resize(image: ImageArray, height: int, width: int) -> ImageArray:
    """Return the image at another size."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
