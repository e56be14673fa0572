"""Owns the building of the C++ kernels: by PyTorch's compiler for CPUs, with its flags, its cache and its locks."""

import ctypes
import platform
from functools import cache
from pathlib import Path

from common.errors import UserError

SOURCES = [
    Path(__file__).with_name(name) for name in ("vectors.h", "tiles.h", "attention.cpp", "gelu.cpp", "linear.cpp")
]
"""What is built, as one text in this order."""
LANES = 16
"""Numbers of a vector, as `vectors.h` has it: what the kernels take is as wide, or a multiple."""


@cache
def load_kernels() -> ctypes.CDLL:
    """Return the library of this folder's kernels; it is built once a machine, in some four seconds.

    The flags are those of any generated kernel, but a product and the sum it goes into may be one instruction, which rounds
    once instead of twice. Errors: it cannot be built.
    """
    # The compiler's driver is imported where something is compiled: few runs do.
    from torch._inductor.codecache import CppCodeCache
    from torch._inductor.exc import CppCompileError

    text = "\n".join(source.read_text() for source in SOURCES)
    try:
        library: ctypes.CDLL = CppCodeCache.load_async(text, extra_flags=("-ffp-contract=fast",))()
    except (CppCompileError, OSError) as error:
        last_words = str(error).strip().splitlines()[-1]
        raise UserError(
            f"train.kernels = true (train.compile brings it with it): the kernels could not be built: {last_words}. Mend the C++ "
            "compiler, name another one in the environment variable CXX, or set both to false."
        ) from error
    address: list[type] = [ctypes.c_void_p]
    whole: list[type] = [ctypes.c_long]
    real: list[type] = [ctypes.c_float]
    library.attention_forward.argtypes = 3 * address + 4 * whole + real
    library.attention_backward.argtypes = 4 * address + 4 * whole + real
    library.weight_gradient.argtypes = 3 * address + 3 * whole
    library.gelu_forward.argtypes = 3 * address + 2 * whole
    library.gelu_backward.argtypes = 5 * address + 2 * whole
    library.attention_available.restype = ctypes.c_bool
    return library


def runs_kernels() -> bool:
    """Return whether this processor multiplies matrices of bf16; building what asks it takes a compiler."""
    return platform.machine() in ("x86_64", "AMD64") and bool(load_kernels().attention_available())
