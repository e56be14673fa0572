"""Image sizes in configurations: one side of a square image, or (height, width)."""

MAX_SIDE = 2**13
"""Largest side of an image that a network takes, in pixels."""


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return a size as (height, width) in pixels; an integer is the side of a square."""
    return (size, size) if isinstance(size, int) else size


def size_before_crop(size: int | tuple[int, int], crop_pct: float) -> tuple[int, int]:
    """Return the (height, width) that an evaluation resizes images to before it crops `size`, a fraction `crop_pct` of it."""
    height, width = height_and_width(size)
    return round(height / crop_pct), round(width / crop_pct)


def describe_size(size: int | tuple[int, int]) -> str:
    """Return a size as a recipe has it: 224, or [256, 128]."""
    return str(size) if isinstance(size, int) else str(list(size))
