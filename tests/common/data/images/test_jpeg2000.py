"""JPEG 2000: color of more than 8 bits, whose white Pillow turns into black."""

import cv2
import numpy as np
import pytest

from common.data.images.decode import ImageDecoder
from common.errors import UserError

TWELVE_BITS = bytes.fromhex(
    "0000000c6a5020200d0a870a00000014667479706a703220000000006a7032200000002d6a70326800000016696864720000"
    "00040000000400030b0700000000000f636f6c7201000000000010000000b26a703263ff4fff51002f000000000004000000"
    "0400000000000000000000000400000004000000000000000000030b01010b01010b0101ff52000c00000001010004040001"
    "ff5c00044060ff640025000143726561746564206279204f70656e4a5045472076657273696f6e20322e352e34ff90000a00"
    "000000003a0001ff93dfe06c128c690390873c3f641ab6924e739ce739ce739ce739ce739ce739c7ec080c78587fcfe4100f"
    "28607fffd9"
)
"""RGB of 12 bits, 4 x 4 pixels: a row of 0, one of (2048, 1024, 512) and two of 4095."""


def encode(pixels: np.ndarray) -> bytes:
    """Return RGB(A) or gray pixels as a lossless file; OpenCV needs at least 64 x 64."""
    ordered = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    options = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000]
    return cv2.imencode(".jp2", np.ascontiguousarray(ordered), options)[1].tobytes()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_16_bits_come_out_right_up_to_white(channels: int) -> None:
    rows, columns = np.mgrid[0:64, 0:80]
    colors = np.stack([rows * 4, 255 - columns, (rows + columns) % 256], -1).astype(np.uint8)
    colors[0] = 255
    pixels = np.dstack([colors, np.full((64, 80), 255, np.uint8)])[..., :channels].squeeze()
    expected = colors if channels > 1 else np.repeat(colors[..., :1], 3, axis=2)
    image = ImageDecoder().decode(encode(pixels.astype(np.uint16) * 257), "x")
    assert np.abs(image.astype(int) - expected).max() <= 1


def test_fewer_bits_are_scaled() -> None:
    image = ImageDecoder().decode(TWELVE_BITS, "x")
    assert image[:, 0].tolist() == [[0] * 3, [128, 64, 32], [255] * 3, [255] * 3]


def test_deep_kinds_that_would_come_out_wrong_are_named() -> None:
    data = bytearray(encode(np.full((64, 64, 3), 9, np.uint16)))
    data[data.index(b"colr\x01") + 10] = 18  # sYCC
    with pytest.raises(
        UserError, match=r"^x: JPEG 2000 with 16 bits per channel is only supported in gray and in RGB\. Save it"
    ):
        ImageDecoder().decode(bytes(data), "x")
