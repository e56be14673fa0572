"""Owns the building of the C++ kernels: by PyTorch's compiler for CPUs, with its flags, its cache and its locks."""

import ctypes
from functools import cache
from pathlib import Path

from torch._inductor.codecache import CppCodeCache
from torch._inductor.exc import CppCompileError

from common.errors import UserError

SOURCE = Path(__file__).with_name("attention.cpp")


@cache
def load_kernels() -> ctypes.CDLL:
    """Return the library of this folder's kernels; it is built once a machine, in some four seconds.

    The flags are those of any generated kernel, but a product and the sum it goes into may be one instruction, which rounds
    once instead of twice. Errors: it cannot be built.
    """
    try:
        library: ctypes.CDLL = CppCodeCache.load_async(SOURCE.read_text(), extra_flags=("-ffp-contract=fast",))()
    except (CppCompileError, OSError) as error:
        raise UserError(
            f"train.compile = true: {SOURCE.name} could not be built ({str(error).strip().splitlines()[-1]}). Mend the C++ "
            "compiler, name another one in the environment variable CXX, or set train.compile=false."
        ) from error
    address, whole, real = ctypes.c_void_p, ctypes.c_long, ctypes.c_float
    for name, tensors in (("attention_forward", 3), ("attention_backward", 4)):
        function = getattr(library, name)
        function.argtypes, function.restype = [address] * tensors + [whole] * 4 + [real], None
    library.attention_available.restype = ctypes.c_bool
    return library
