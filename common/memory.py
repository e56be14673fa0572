"""Memory of a process: reuse of freed memory, and recognition of out-of-memory errors."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
"""Numbers of these options in glibc's malloc.h."""
_OUT_OF_MEMORY_MESSAGES = (
    "can't allocate memory",  # torch's CPU allocator
    "Storage size calculation overflowed",  # a tensor larger than the address space
    "out of memory",  # the CUDA runtime and NCCL outside torch's allocator, MPS
    "CUBLAS_STATUS_ALLOC_FAILED",  # cuBLAS's workspace, on a GPU that other processes fill
    "Invalid buffer size",  # MPS
)
"""Messages of the out-of-memory errors for which torch raises a plain RuntimeError."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that host or device memory ran out.

    The types are MemoryError (Python, numpy) and torch.OutOfMemoryError (torch's device allocators). For host memory torch raises
    a plain RuntimeError, which only its message identifies.
    """
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _OUT_OF_MEMORY_MESSAGES)


def keep_freed_memory() -> None:
    """Configure glibc to keep freed memory for the next step or batch; do nothing with other C libraries.

    By default glibc returns large blocks to the system immediately, and the system zeroes their pages when they are allocated
    again: on a CPU, a step of 64 images with 65,536 prototypes then takes 1.4 times as long.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_TOP_PAD, 2**26)
