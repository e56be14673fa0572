"""Owns how a process keeps the memory it has freed."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""glibc's numbers of these settings (malloc.h)."""


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for the next step or batch; elsewhere do nothing.

    By its defaults it hands large blocks back to the system at once, which fills each of their pages with zeros when the same
    block is asked for again: a step of 64 images with 65,536 codes takes 1.4 times as long then, on a CPU.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if adjust is not None:
        adjust(_MMAP_MAX, 0)
        adjust(_TRIM_THRESHOLD, 2**31 - 1)
        adjust(_TOP_PAD, 2**26)
