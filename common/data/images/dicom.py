"""DICOM images, decoded by the package `pydicom` where it is installed.

Only the elements that say what the pixels are and mean are read: no name and no number of a patient comes into memory, a log or an
error, and neither do pydicom's own messages, which may quote elements.
"""

import importlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.images.orientation_alpha_depth import count, wrong_channels
from common.data.images.stored_pixels import StoredImage, StoredPixels, UnsupportedImageError, Wanted

_ELEMENTS = (
    *("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableData", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "LossyImageCompression"),
)
_MONOCHROME = ("MONOCHROME1", "MONOCHROME2")
_REMEDY = "Convert it to PNG or to a NumPy array (H, W, C)."


def open_dicom(data: bytes, wanted: Wanted) -> StoredImage:
    """Read the elements of the pixels; raise UnsupportedImageError without the package `pydicom`, and for other kinds of pixels."""
    pydicom = _pydicom()
    with _without_values():
        file = pydicom.dcmread(io.BytesIO(data), specific_tags=list(_ELEMENTS))
        has_pixels = any(name in file for name in ("PixelData", "FloatPixelData")) and "Rows" in file
        photometric = str(file.get("PhotometricInterpretation", "")) if has_pixels else ""
        samples, num_frames = int(file.get("SamplesPerPixel", 1)), int(file.get("NumberOfFrames", 1) or 1)
        height, width = (int(file.get(name, 0) or 0) for name in ("Rows", "Columns"))
    if not has_pixels:
        raise UnsupportedImageError("the DICOM file has no pixels: a report or a directory. Remove it.")
    if photometric not in (*_MONOCHROME, "RGB", "PALETTE COLOR") and not photometric.startswith("YBR"):
        raise UnsupportedImageError(f"DICOM of this photometric interpretation is not supported. {_REMEDY}")
    if height <= 0 or width <= 0:
        raise OSError("the size is missing")
    frames = range(num_frames) if wanted.pages == "channels" else range(1)
    _check_channels(3 if photometric == "PALETTE COLOR" else samples, frames, num_frames, wanted)
    return StoredImage(height, width, lambda: _read(file, photometric, frames, wanted))


def _check_channels(samples: int, frames: range, num_frames: int, wanted: Wanted) -> None:
    """Raise UnsupportedImageError unless the wanted frames have the wanted channels; colors and gray become each other."""
    found = samples * len(frames)
    if found == wanted.channels or (len(frames) == 1 and wanted.channels in (1, 3)):
        return
    remedy = ""
    if len(frames) < num_frames:
        remedy = (
            f"It is the first of {num_frames} frames: set data.pages=channels if they are the channels of one image."
        )
    elif num_frames > 1:
        remedy = f"They are those of its {count(num_frames, 'frame')}: data.pages=first takes the first one alone."
    raise wrong_channels(found, wanted.channels, remedy=remedy)


def _read(file: Any, photometric: str, frames: Iterable[int], wanted: Wanted) -> StoredPixels:
    """Decode the frames, rescaled to the values that they stand for (Hounsfield units in CT)."""
    is_gray = photometric in _MONOCHROME
    with _without_values():
        decoded = [_rescaled(file, frame, _decode(file, frame, photometric), is_gray=is_gray) for frame in frames]
        value_range = None
        if is_gray and not wanted.has_range:
            value_range = _window(file) or _stored_range(file)
    pixels = decoded[0] if len(decoded) == 1 else np.dstack(decoded)
    return StoredPixels(
        pixels,
        is_raw=len(decoded) > 1,
        is_inverted=photometric == "MONOCHROME1",
        value_range=value_range,
    )


def _decode(file: Any, frame: int, photometric: str) -> npt.NDArray[Any]:
    """Return the stored values (H, W) or colors (H, W, 3) of a frame."""
    pixels = importlib.import_module("pydicom.pixels")
    try:
        values: npt.NDArray[Any] = pixels.pixel_array(file, index=frame)
    except RuntimeError as error:
        name = file.file_meta.TransferSyntaxUID.name
        raise UnsupportedImageError(
            f"the DICOM file cannot be decompressed: it is damaged, or its compression '{name}' needs another package. Run"
            " `pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg`, or decompress it."
        ) from error
    if photometric == "PALETTE COLOR":
        return np.asarray(pixels.apply_color_lut(values, file))
    return values


def _rescaled(file: Any, frame: int, values: npt.NDArray[Any], *, is_gray: bool) -> npt.NDArray[Any]:
    """Return gray values as floating-point numbers, by the modality's table or by slope and intercept; colors as they are."""
    if not is_gray:
        return values
    if "ModalityLUTSequence" in file:
        pixels = importlib.import_module("pydicom.pixels")
        return np.asarray(pixels.apply_modality_lut(values, file), np.float64)
    slope, intercept = _slope_and_intercept(file, frame)
    return values * slope + intercept


def _slope_and_intercept(file: Any, frame: int) -> tuple[float, float]:
    """Return them from the image, or from the functional groups of a frame; 1 and 0 if there are none."""
    for item in (file, *_functional_groups(file, frame, "PixelValueTransformationSequence")):
        if item.get("RescaleSlope") is not None:
            return float(item.RescaleSlope), float(item.get("RescaleIntercept", 0) or 0)
    return 1.0, 0.0


def _window(file: Any) -> tuple[float, float] | None:
    """Return the values that the first window shows as black and white (DICOM PS3.3, C.11.2.1.2), None without a window."""
    for item in (file, *_functional_groups(file, 0, "FrameVOILUTSequence")):
        if item.get("WindowCenter") is None or item.get("WindowWidth") is None:
            continue
        center, width = _first(item.WindowCenter), _first(item.WindowWidth)
        function = str(item.get("VOILUTFunction", "LINEAR") or "LINEAR")
        if function not in ("LINEAR", "LINEAR_EXACT"):
            raise UnsupportedImageError(
                f"DICOM with a window of the function {function} is not supported. Set data.value_range=[low, high]."
            )
        low, high = center - width / 2, center + width / 2
        high -= function == "LINEAR"  # its ends are the lowest and the highest of `width` whole numbers
        return (low, high) if low < high else None
    return None


def _stored_range(file: Any) -> tuple[float, float]:
    """Return the lowest and the highest value that the stored bits can have, rescaled."""
    if "FloatPixelData" in file:
        raise UnsupportedImageError(
            "the pixels are floating-point numbers without a window. Set data.value_range=[low, high]."
        )
    if "ModalityLUTSequence" in file:
        return 0.0, float(2 ** int(file.ModalityLUTSequence[0].LUTDescriptor[2]) - 1)
    bits, is_signed = int(file.BitsStored), bool(file.get("PixelRepresentation", 0))
    ends = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    slope, intercept = _slope_and_intercept(file, 0)
    low, high = sorted(slope * end + intercept for end in ends)
    return low, high


def _functional_groups(file: Any, frame: int, name: str) -> Iterator[Any]:
    """Yield the items of a functional group that hold for a frame: those of all frames, then its own."""
    shared = list(file.get("SharedFunctionalGroupsSequence") or ())[:1]
    own = list(file.get("PerFrameFunctionalGroupsSequence") or ())[frame : frame + 1]
    for group in (*shared, *own):
        yield from list(group.get(name) or ())[:1]


def _first(values: Any) -> float:
    """Return the first of several values, or the only one."""
    return float(values[0] if hasattr(values, "__len__") and not isinstance(values, str) else values)


def _pydicom() -> Any:
    """Return the package; raise UnsupportedImageError if it is not installed."""
    try:
        package = importlib.import_module("pydicom")
    except ImportError as error:
        raise UnsupportedImageError(
            'DICOM needs the package pydicom. Run `pip install -e ".[dicom]"`, or convert the image to PNG.'
        ) from error
    _silence()
    return package


@cache
def _silence() -> None:
    """Ignore the package's own messages."""
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


@contextmanager
def _without_values() -> Iterator[None]:
    """Replace the errors of damaged files by one without values of elements."""
    try:
        yield
    except UnsupportedImageError:
        raise
    except Exception as error:
        kind = type(error).__name__
        raise OSError(f"elements that describe its pixels are missing or damaged: {kind}") from None
