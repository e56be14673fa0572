"""DICOM: values, windows, frames, and no data of patients in messages; skipped where pydicom is not installed."""

import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from common.data.images.decode import ImageDecoder
from common.data.images.formats import Format, find_format
from common.data.sources.folders import FolderSource
from common.errors import UserError

DICOM_START = bytes(128) + b"DICM" + bytes(8)
ROWS, COLUMNS = np.mgrid[0:10, 0:12]
VALUES = (ROWS * 300 + COLUMNS * 20).astype(np.uint16)  # at most 2,920 of 12 bits


def test_dicom_names_the_package_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    assert find_format(DICOM_START) == Format.DICOM
    expected = r'^IM0001: DICOM needs the package pydicom\. Run `pip install -e "\.\[dicom\]"`'
    with pytest.raises(UserError, match=expected):
        ImageDecoder().decode(DICOM_START, "IM0001")


def test_dicom_is_passed_over_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "lung").mkdir()
    (tmp_path / "lung" / "1.dcm").write_bytes(DICOM_START)
    (tmp_path / "lung" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    monkeypatch.setattr("common.data.sources.listing.find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        split = FolderSource(tmp_path, decoder=ImageDecoder()).read("train", labeled=True)
    assert split.file_names() == ["lung/2.png"]
    assert '1 .dcm (DICOM: pip install -e ".[dicom]")' in caplog.text


def dicom(pixels: npt.NDArray[Any], **elements: Any) -> bytes:
    """Return a DICOM file of (H, W), (F, H, W) or (H, W, 3) pixels."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    file = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    is_rgb = pixels.shape[-1] == 3
    file.PatientName, file.PatientID = "Doe^Jane", "secret-4711"
    file.Rows, file.Columns = pixels.shape[:2] if is_rgb else pixels.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = (3, "RGB") if is_rgb else (1, "MONOCHROME2")
    if is_rgb:
        file.PlanarConfiguration = 0
    bits = 8 * pixels.itemsize
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, 12 if bits == 16 else 8, 11 if bits == 16 else 7
    file.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3 and not is_rgb:
        file.NumberOfFrames = len(pixels)
    file.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


def decode(data: bytes, **options: Any) -> npt.NDArray[Any]:
    return ImageDecoder(**{"channels": 1, "bits": 16, **options}).decode(data, "x.dcm")


def scaled(values: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.uint16]:
    """Return values as a naive window shows them, in 16 bits."""
    return np.rint(65535 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint16)


def test_stored_bits_are_the_range_without_a_window() -> None:
    np.testing.assert_array_equal(decode(dicom(VALUES))[..., 0], scaled(VALUES.astype(float), 0, 4095))
    rgb = decode(dicom(VALUES), channels=3, bits=8)
    assert rgb.shape == (10, 12, 3) and rgb.max() == round(255 * 2920 / 4095)


def test_rescaled_values_are_shown_by_the_first_window_or_the_range_of_the_recipe() -> None:
    signed = VALUES.astype(np.int16) - 1000
    data = dicom(
        signed, RescaleSlope="2", RescaleIntercept="-100", WindowCenter=["40", "300"], WindowWidth=["400", "1500"]
    )
    units = 2.0 * signed - 100
    np.testing.assert_array_equal(decode(data)[..., 0], scaled(units, -160, 239))
    np.testing.assert_array_equal(decode(data, value_range=(-1000, 1000))[..., 0], scaled(units, -1000, 1000))
    exact = dicom(signed, WindowCenter="40", WindowWidth="400", VOILUTFunction="LINEAR_EXACT")
    np.testing.assert_array_equal(decode(exact)[..., 0], scaled(signed.astype(float), -160, 240))
    without = dicom(signed, RescaleSlope="-1", RescaleIntercept="0")
    np.testing.assert_array_equal(decode(without)[..., 0], scaled(-signed.astype(float), -2047, 2048))


def test_window_is_that_of_pydicom() -> None:
    data = dicom(VALUES, WindowCenter="1000", WindowWidth="800")
    from pydicom import dcmread
    from pydicom.pixels import apply_windowing

    theirs = apply_windowing(VALUES, dcmread(io.BytesIO(data))) / 4095  # shown in the range of the stored bits
    np.testing.assert_allclose(decode(data)[..., 0] / 65535, theirs, atol=1e-5)


def test_monochrome1_is_inverted() -> None:
    data = dicom(VALUES, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(decode(data)[..., 0], 65535 - scaled(VALUES.astype(float), 0, 4095))
    inverted = decode(data, value_range=(0, 1000), bits=8)[..., 0]
    assert inverted[0, 0] == 255 and inverted[-1, -1] == 0


def test_colors_and_their_luma() -> None:
    pixels = np.stack([ROWS * 20, COLUMNS * 20, ROWS + COLUMNS], axis=2).astype(np.uint8)
    np.testing.assert_array_equal(decode(dicom(pixels), channels=3, bits=8), pixels)
    luma = decode(dicom(pixels), bits=8)[..., 0]
    assert np.abs(luma - pixels @ [0.299, 0.587, 0.114]).max() <= 1


def test_frames_are_the_first_one_or_channels() -> None:
    frames = np.stack([VALUES, VALUES // 2, VALUES // 3, VALUES // 4])
    data = dicom(frames)
    np.testing.assert_array_equal(decode(data)[..., 0], scaled(VALUES.astype(float), 0, 4095))
    every = decode(data, channels=4, pages="channels")
    np.testing.assert_array_equal(every, scaled(np.moveaxis(frames, 0, 2).astype(float), 0, 4095))
    with pytest.raises(
        UserError, match=r"has 1 channel, but data\.channels is 4\. It is the first of 4 frames: set data\.pages"
    ):
        decode(data, channels=4)
    with pytest.raises(UserError, match=r"has 4 channels, but data\.channels is 3\. They are those of its 4 frames"):
        decode(data, channels=3, pages="channels")


def test_files_without_pixels_and_with_other_windows_are_named() -> None:
    pydicom = pytest.importorskip("pydicom")
    file = pydicom.dcmread(io.BytesIO(dicom(VALUES)))
    del file.PixelData
    buffer = io.BytesIO()
    file.save_as(buffer)
    with pytest.raises(UserError, match=r"^x\.dcm: the DICOM file has no pixels"):
        decode(buffer.getvalue())
    with pytest.raises(UserError, match=r"function SIGMOID is not supported\. Set data\.value_range"):
        decode(dicom(VALUES, WindowCenter="5", WindowWidth="3", VOILUTFunction="SIGMOID"))
    with pytest.raises(UserError, match=r"JPEG Lossless.* needs another package"):
        compressed = pydicom.dcmread(io.BytesIO(dicom(VALUES)))
        compressed.file_meta.TransferSyntaxUID = pydicom.uid.JPEGLossless
        compressed.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        compressed["PixelData"].is_undefined_length = True
        buffer = io.BytesIO()
        compressed.save_as(buffer)
        decode(buffer.getvalue())


@pytest.mark.parametrize("damage", ["short", "rows", "slope"])
def test_no_data_of_patients_in_messages(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    data = dicom(VALUES, RescaleSlope="1.5", RescaleIntercept="0")
    if damage == "short":
        data = data[:-100]
    else:
        old, new = {"rows": (b"\x28\0\x10\0US", b"\x28\0\x10\0LO"), "slope": (b"1.5 ", b"Jane")}[damage]
        assert old in data
        data = data.replace(old, new)
    with warnings.catch_warnings(record=True) as shown, caplog.at_level(logging.DEBUG):
        try:
            decode(data)
        except UserError as error:
            message = str(error)
        else:
            message = ""
    said = message + caplog.text + "".join(str(each.message) for each in shown)
    assert message.startswith("x.dcm: ")
    assert not any(word in said for word in ("Doe", "Jane", "4711"))
