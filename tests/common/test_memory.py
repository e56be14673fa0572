"""Tests of memory reuse and of out-of-memory errors."""

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from common import memory


@pytest.mark.skipif(sys.platform != "linux", reason="the option is glibc's")
def test_freed_memory_is_reused_for_the_next_batch() -> None:
    """With glibc's defaults each round would fault in the 24 MB of its arrays again: 6,000 pages."""
    program = """
import resource, numpy as np
from common.memory import keep_freed_memory
keep_freed_memory()
def round():
    arrays = [np.ones(600_000, dtype=np.uint8) for _ in range(40)]
round()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    round()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1000


def test_other_c_libraries_are_not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[str] = []

    class Other:
        def __getattr__(self, name: str) -> None:
            requested.append(name)
            raise AttributeError(name)

    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: Other())
    memory.keep_freed_memory()
    assert requested == ["mallopt"]


@pytest.mark.parametrize(
    ("allocate", "size"),
    [(torch.empty, 10**15), (torch.empty, 2**62), (np.empty, 10**15)],
    ids=["torch", "torch, address space", "numpy"],
)
def test_failed_allocations_are_out_of_memory_errors(allocate: Callable[[int], object], size: int) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as raised:
        allocate(size)
    assert memory.is_out_of_memory(raised.value)


def test_a_workspace_that_cublas_cannot_allocate_is_out_of_memory() -> None:
    """The first symptom where several processes fill a GPU."""
    error = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    assert memory.is_out_of_memory(error)
