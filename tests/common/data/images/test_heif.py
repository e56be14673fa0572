"""HEIC: read with pillow-heif, named without it; turned by its container."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from common.data.images.decode import ImageDecoder
from common.errors import UserError

HEIC_START = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def test_heic_names_the_package_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(
        UserError, match=r"^IMG_1\.HEIC: HEIC needs the package pillow-heif\. Run `pip install pillow-heif`"
    ):
        ImageDecoder().decode(HEIC_START, "IMG_1.HEIC")


def test_avif_names_the_pillow_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.features.check", lambda feature: False)
    with pytest.raises(UserError, match=r"^x\.avif: AVIF needs Pillow 11\.3 or newer\. Run `pip install -U pillow`"):
        ImageDecoder().decode(HEIC_START.replace(b"heic", b"avif"), "x.avif")


class FakeImage:
    """What `open_heif` returns for an RGBA image."""

    def __init__(self, mode: str) -> None:
        self.mode, self.size = mode, (3, 2)
        self.premultiplied_alpha = mode == "RGBa"

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.full((2, 3, 4), 128, np.uint8)


@pytest.mark.parametrize(("mode", "value"), [("RGBA", 191), ("RGBa", 255)])
def test_alpha_of_heic_is_composited_on_white(monkeypatch: pytest.MonkeyPatch, mode: str, value: int) -> None:
    module = type(sys)("pillow_heif")
    module.open_heif = lambda data, **options: FakeImage(mode)
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    assert (ImageDecoder().decode(HEIC_START, "x") == value).all()
    with pytest.raises(UserError, match="3 x 2 = 6 pixels"):
        ImageDecoder(5).decode(HEIC_START, "x")


def test_heic_is_read_and_turned_by_its_container() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([rows * 5, columns * 3, rows + columns], -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    for metadata, expected in ((exif.tobytes(), np.rot90(pixels, -1)), (b"Exif\0\0garbage!", pixels), (None, pixels)):
        buffer = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(pixels)).save(buffer, quality=95, exif=metadata)
        image = ImageDecoder().decode(buffer.getvalue(), "x")
        assert image.shape == expected.shape
        assert np.abs(image.astype(int) - expected).mean() < 4
