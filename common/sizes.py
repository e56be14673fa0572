"""Owns the size of images as a recipe gives it: a side for squares, or height and width."""

MOST_SIDE = 2**13
"""Largest side of a view, in pixels."""


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) in pixels of a size, which is one number for a square."""
    return (size, size) if isinstance(size, int) else size
