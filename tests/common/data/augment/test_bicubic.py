"""Bicubic resizing: every variant of the kernel equals PyTorch bit for bit at all sizes, and stays within its images' memory."""

import logging
import mmap
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.augment import bicubic

needs_kernel = pytest.mark.skipif(
    not bicubic.VARIANTS, reason="the kernel was not built, or this processor does not support any of its variants"
)
every_variant = pytest.mark.parametrize("variant", bicubic.VARIANTS)


def pixels(height, width, seed=0, *, hard=False):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.where(values > 127, 255, 0).astype(np.uint8) if hard else values


def assert_equals_pytorch(variant, image, size, *, box=None, flip=False):
    box = box or (0, 0, *image.shape[:2])
    expected = bicubic.resize_by_pytorch(image, size, box=box, flip=flip)
    resized = bicubic.resize_by_kernel(image, size, box=box, flip=flip, variant=variant)
    assert np.array_equal(resized, expected)


SIDES = st.one_of(st.integers(1, 12), st.integers(1, 300))


@every_variant
@given(st.data(), SIDES, SIDES, SIDES, SIDES, st.booleans(), st.booleans(), st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_kernel_equals_pytorch(variant, data, height, width, to_height, to_width, flip, hard, seed):
    image = pixels(height, width, seed, hard=hard)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = (top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    assert_equals_pytorch(variant, image, (to_height, to_width), box=box, flip=flip)


@every_variant
@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(1, 1, (224, 224)), (1, 30_000, (32, 32)), (30_000, 1, (32, 32)), (3000, 2000, (1, 1)), (7, 5, (1, 700))],
)
def test_extreme_sizes(variant, height, width, size):
    for flip in (False, True):
        assert_equals_pytorch(variant, pixels(height, width), size, flip=flip)


@every_variant
@pytest.mark.parametrize("side", [3, 37, 96])
def test_no_memory_is_read_past_the_image(variant, side):
    # The image ends at the end of its memory page, and the next page is protected.
    memory = mmap.mmap(-1, 16 * mmap.PAGESIZE)
    protect(memory, 15 * mmap.PAGESIZE, mmap.PAGESIZE)
    length = side * side * 3
    image = np.frombuffer(memory, np.uint8, length, 15 * mmap.PAGESIZE - length).reshape(side, side, 3)
    image[...] = pixels(side, side)
    half = side // 2
    for box in ((0, 0, side, side), (side - 1, side - 1, 1, 1), (half, half, side - half, side - half)):
        assert_equals_pytorch(variant, image, (16, 20), box=box)


def protect(memory, offset, length):
    import ctypes

    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + offset
    assert ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), length, 0) == 0


@every_variant
@pytest.mark.parametrize("size", [(1, 1), (3, 7), (5, 32), (2, 43), (16, 64)])
def test_no_memory_is_written_outside_the_result(variant, size):
    memory, length = np.full(2 * 128 + size[0] * size[1] * 3, 77, np.uint8), size[0] * size[1] * 3
    result = memory[128 : 128 + length].reshape(*size, 3)
    image = pixels(20, 30)
    bicubic._bicubic_kernel.resize_into(variant, image, 0, 0, 20, 30, False, result)
    assert np.array_equal(result, bicubic.resize_by_pytorch(image, size, box=(0, 0, 20, 30)))
    assert (memory[:128] == 77).all() and (memory[128 + length :] == 77).all()


@needs_kernel
@pytest.mark.parametrize(
    "box", [(0, 0, 5, 4), (0, 0, 4, 5), (-1, 0, 2, 2), (0, 3, 1, 2), (0, 0, 0, 1), (2**62, 0, 4, 4)]
)
def test_a_box_outside_the_image_is_rejected(box):
    with pytest.raises(ValueError, match="the box must lie within"):
        bicubic._bicubic_kernel.resize_into(
            bicubic.VARIANTS[0], pixels(4, 4), *box, False, np.empty((2, 2, 3), np.uint8)
        )


@needs_kernel
def test_invalid_images_are_rejected():
    name, image, result = bicubic.VARIANTS[0], pixels(4, 4), np.empty((2, 2, 3), np.uint8)
    for wrong in (image[:, :, 0].copy(), image.astype(np.float32), image[:0]):
        with pytest.raises(ValueError, match="bytes"):
            bicubic._bicubic_kernel.resize_into(name, wrong, 0, 0, 1, 1, False, result)
    for strided in (image[:, ::2], image[::2]):
        with pytest.raises(ValueError, match="contiguous"):
            bicubic._bicubic_kernel.resize_into(name, strided, 0, 0, 1, 1, False, result)
    with pytest.raises(ValueError, match="read-only|writable"):
        result.flags.writeable = False
        bicubic._bicubic_kernel.resize_into(name, image, 0, 0, 4, 4, False, result)


@needs_kernel
def test_an_unknown_variant_is_rejected():
    with pytest.raises(ValueError, match="AVX-1024: not a variant that this processor supports"):
        bicubic._bicubic_kernel.resize_into("AVX-1024", pixels(4, 4), 0, 0, 4, 4, False, np.empty((2, 2, 3), np.uint8))


@pytest.mark.skipif(find_spec("common.data.augment._bicubic_kernel") is None, reason="the kernel was not built")
def test_processors_with_avx2_have_a_variant():
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text().split() if cpu.is_file() else []
    assert ("AVX2" in bicubic.VARIANTS) == ("avx2" in flags and "fma" in flags)


@pytest.fixture
def choose(monkeypatch):
    """Return a function that chooses anew among variants, with a limit of PyTorch's; those that `differ` give other pixels."""

    def choose(variants, capability="AVX512", differ=()):
        def resize(image, size, *, box, flip, variant):
            resized = bicubic.resize_by_pytorch(image, size, box=box, flip=flip)
            return resized ^ (variant in differ and flip)

        monkeypatch.setattr(bicubic, "VARIANTS", variants)
        monkeypatch.setattr(bicubic, "resize_by_kernel", resize)
        monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
        bicubic.chosen_variant.cache_clear()
        return bicubic.chosen_variant()

    yield choose
    bicubic.chosen_variant.cache_clear()


ALL = ("AVX-512 VBMI", "AVX-512", "AVX2")


def test_the_fastest_variant_within_the_limit_of_pytorch_is_chosen(choose):
    assert choose(ALL) == "AVX-512 VBMI"
    assert bicubic.description() == "own kernel, AVX-512 VBMI"
    assert choose(ALL[1:]) == "AVX-512"
    assert choose(ALL, "AVX2") == "AVX2"
    assert choose(ALL, "DEFAULT") is None and choose(()) is None
    assert bicubic.description() == "PyTorch"


def test_a_variant_with_other_pixels_is_not_used(choose, caplog):
    with caplog.at_level(logging.WARNING):
        assert choose(ALL, differ=ALL[:1]) == "AVX-512"
    [warning] = caplog.messages
    assert "variant AVX-512 VBMI does not give PyTorch's pixels" in warning
    assert choose(ALL, differ=ALL) is None


@pytest.mark.parametrize("kernel", [False, True])
def test_resizing_to_the_same_size_copies(monkeypatch, kernel):
    monkeypatch.setattr(bicubic, "chosen_variant", bicubic.chosen_variant if kernel else lambda: None)
    image = pixels(6, 9)
    copy = bicubic.resize(image, (6, 9))
    assert np.array_equal(copy, image) and not np.shares_memory(copy, image)
    assert np.array_equal(bicubic.resize(image, (2, 3), box=(1, 2, 2, 3), flip=True), image[1:3, 2:5][:, ::-1])


@pytest.mark.parametrize("kernel", [False, True])
def test_both_ways_resize_to_the_same_pixels(monkeypatch, kernel):
    monkeypatch.setattr(bicubic, "chosen_variant", bicubic.chosen_variant if kernel else lambda: None)
    image = pixels(40, 50)
    expected = bicubic.resize_by_pytorch(image, (16, 20), box=(1, 2, 30, 40), flip=True)
    assert np.array_equal(bicubic.resize(image, (16, 20), box=(1, 2, 30, 40), flip=True), expected)
