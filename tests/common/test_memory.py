"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

from common import memory


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_freed_memory_is_kept_for_the_next_batch() -> None:
    """By glibc's defaults each round would fault in the 24 MB of its arrays again: 6,000 pages."""
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


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Other:
        def __getattr__(self, name: str) -> None:
            asked.append(name)
            raise AttributeError(name)

    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: Other())
    memory.keep_freed_memory()
    assert asked == ["mallopt"]
