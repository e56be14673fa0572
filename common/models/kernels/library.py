"""Compilation of the C++ kernels with PyTorch's C++ code cache: its compiler, flags, cache and locks."""

import ctypes
import platform
from functools import cache
from pathlib import Path

from common.errors import UserError, is_disk_error, os_error_of

SOURCES = [
    Path(__file__).with_name(name) for name in ("vectors.h", "tiles.h", "attention.cpp", "gelu.cpp", "linear.cpp")
]
"""Source files, concatenated in this order for compilation."""
LANES = 16
"""Elements per vector, as in `vectors.h`: the kernels require widths that are a multiple of it."""


@cache
def load_kernels() -> ctypes.CDLL:
    """Return the library of this folder's kernels; it is compiled once per machine, in about four seconds.

    The flags are those of generated kernels, except that a product and a sum may be contracted into one instruction (FMA), which
    rounds once instead of twice. Raise UserError if compilation fails.
    """
    # Imported lazily: few runs compile anything.
    from torch._inductor.codecache import CppCodeCache
    from torch._inductor.exc import CppCompileError

    text = "\n".join(source.read_text(encoding="utf-8") for source in SOURCES)
    try:
        library: ctypes.CDLL = CppCodeCache.load_async(text, extra_flags=("-ffp-contract=fast",))()
    except (CppCompileError, OSError) as error:
        if (cause := os_error_of(error, is_disk_error)) is not None:
            raise UserError(
                f"train.kernels = true (implied by train.compile): the compiled kernels cannot be stored ({cause}). Set"
                " TORCHINDUCTOR_CACHE_DIR, or TMPDIR, to a folder that can be written."
            ) from error
        last_line = str(error).strip().splitlines()[-1]
        raise UserError(
            f"train.kernels = true (implied by train.compile): the kernels could not be compiled: {last_line}. Fix the C++ "
            "compiler, set the environment variable CXX to another one, or set both keys to false."
        ) from error
    pointer: list[type] = [ctypes.c_void_p]
    integer: list[type] = [ctypes.c_long]
    scalar: list[type] = [ctypes.c_float]
    library.attention_forward.argtypes = 3 * pointer + 4 * integer + scalar
    library.attention_backward.argtypes = 4 * pointer + 4 * integer + scalar
    library.weight_gradient.argtypes = 3 * pointer + 3 * integer
    library.gelu_forward.argtypes = 3 * pointer + 2 * integer
    library.gelu_backward.argtypes = 5 * pointer + 2 * integer
    library.attention_available.restype = ctypes.c_bool
    return library


def kernels_available() -> bool:
    """Return whether this processor supports the kernels (AMX bf16); on x86-64 this compiles the library."""
    return platform.machine() in ("x86_64", "AMD64") and bool(load_kernels().attention_available())
