"""Bicubic resizing: the kernel equals PyTorch bit for bit at all sizes, and reads no memory outside the image."""

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.augment import bicubic

needs_kernel = pytest.mark.skipif(
    not bicubic.HAS_KERNEL, reason="the kernel was not built, or this processor does not support AVX-512 VBMI and VNNI"
)


def pixels(height, width, seed=0, *, hard=False):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.where(values > 127, 255, 0).astype(np.uint8) if hard else values


def assert_equals_pytorch(image, size, *, box=None, flip=False):
    expected = bicubic.resize_by_pytorch(image, size, box=box or (0, 0, *image.shape[:2]), flip=flip)
    assert np.array_equal(bicubic.resize(image, size, box=box, flip=flip), expected)


SIDES = st.one_of(st.integers(1, 12), st.integers(1, 300))


@needs_kernel
@given(st.data(), SIDES, SIDES, SIDES, SIDES, st.booleans(), st.booleans(), st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_kernel_equals_pytorch(data, height, width, to_height, to_width, flip, hard, seed):
    image = pixels(height, width, seed, hard=hard)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = (top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    assert_equals_pytorch(image, (to_height, to_width), box=box, flip=flip)


@needs_kernel
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(1, 1, (224, 224)), (1, 30_000, (32, 32)), (30_000, 1, (32, 32)), (3000, 2000, (1, 1)), (7, 5, (1, 700))],
)
def test_extreme_sizes(height, width, size):
    for flip in (False, True):
        assert_equals_pytorch(pixels(height, width), size, flip=flip)


@needs_kernel
@pytest.mark.parametrize("side", [3, 37, 96])
def test_no_memory_is_read_past_the_image(side):
    # The image ends at the end of its memory page, and the next page is protected.
    memory = mmap.mmap(-1, 16 * mmap.PAGESIZE)
    protect(memory, 15 * mmap.PAGESIZE, mmap.PAGESIZE)
    length = side * side * 3
    image = np.frombuffer(memory, np.uint8, length, 15 * mmap.PAGESIZE - length).reshape(side, side, 3)
    image[...] = pixels(side, side)
    half = side // 2
    for box in ((0, 0, side, side), (side - 1, side - 1, 1, 1), (half, half, side - half, side - half)):
        assert_equals_pytorch(image, (16, 20), box=box)


def protect(memory, offset, length):
    import ctypes

    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + offset
    assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), length, 0) == 0


@needs_kernel
@pytest.mark.parametrize(
    "box", [(0, 0, 5, 4), (0, 0, 4, 5), (-1, 0, 2, 2), (0, 3, 1, 2), (0, 0, 0, 1), (2**62, 0, 4, 4)]
)
def test_a_box_outside_the_image_is_rejected(box):
    with pytest.raises(ValueError, match="the box must lie within"):
        bicubic._bicubic.resize_into(pixels(4, 4), *box, False, np.empty((2, 2, 3), np.uint8))


@needs_kernel
def test_invalid_images_are_rejected():
    image, result = pixels(4, 4), np.empty((2, 2, 3), np.uint8)
    for wrong in (image[:, :, 0].copy(), image.astype(np.float32), image[:0]):
        with pytest.raises(ValueError, match="bytes"):
            bicubic._bicubic.resize_into(wrong, 0, 0, 1, 1, False, result)
    for strided in (image[:, ::2], image[::2]):
        with pytest.raises(ValueError, match="contiguous"):
            bicubic._bicubic.resize_into(strided, 0, 0, 1, 1, False, result)
    with pytest.raises(ValueError, match="read-only|writable"):
        result.flags.writeable = False
        bicubic._bicubic.resize_into(image, 0, 0, 4, 4, False, result)


@pytest.mark.parametrize("kernel", [False, True])
def test_resizing_to_the_same_size_copies(monkeypatch, kernel):
    monkeypatch.setattr(bicubic, "HAS_KERNEL", kernel and bicubic.HAS_KERNEL)
    image = pixels(6, 9)
    copy = bicubic.resize(image, (6, 9))
    assert np.array_equal(copy, image) and not np.shares_memory(copy, image)
    assert np.array_equal(bicubic.resize(image, (2, 3), box=(1, 2, 2, 3), flip=True), image[1:3, 2:5][:, ::-1])
