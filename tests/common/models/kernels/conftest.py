"""What the tests of the kernels share."""

import platform
import shutil

import pytest

from common.models.kernels.library import runs_kernels


@pytest.fixture
def kernels() -> None:
    """Leave the test out where the kernels cannot be built, or the processor has not what they take."""
    if (
        platform.machine() != "x86_64"
        or not any(shutil.which(name) for name in ("g++", "clang++"))
        or not runs_kernels()
    ):
        pytest.skip("no C++ compiler, or no products of bf16 matrices, here")
