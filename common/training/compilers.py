"""Compilers that `train.compile` and `train.kernels` need: what is missing is one error before training."""

import os
import shutil
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from common.errors import UserError


def check_compiler(key: str) -> None:
    """Raise UserError if there is no C++ compiler, which this key needs on a CPU."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    if not any(shutil.which(name) for name in names):
        raise UserError(
            f"{key} = true: needs a C++ compiler, and {' or '.join(names)} is not installed. Install one (Debian: "
            f"apt install g++), set the environment variable CXX to yours, or set {key}=false."
        )


def check_triton(key: str) -> None:
    """Raise UserError if Triton, by which PyTorch compiles for GPUs, or what it compiles its launchers with is missing."""
    missing = list(_missing_for_triton())
    if missing:
        raise UserError(
            f"{key} = true: on a GPU PyTorch compiles with Triton, and {', '.join(missing)}. Install what is missing (Debian: apt "
            f"install gcc python3-dev; pip install triton), or set {key}=false."
        )


def _missing_for_triton() -> Iterator[str]:
    """Yield in words what Triton lacks: itself, a C compiler as it looks for one, the headers of Python."""
    if find_spec("triton") is None:
        yield "triton is not installed"
    names = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang"]
    if not any(shutil.which(name) for name in names):
        yield f"its C compiler ({' or '.join(names)}; the environment variable CC) is not installed"
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if not header.is_file():
        yield f"{header} does not exist"
