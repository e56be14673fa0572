"""Programs whose reader closes the pipe."""

import signal
import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["common.models", "recipes"])
def test_a_reader_that_closes_the_pipe_early_leaves_no_traceback(module: str) -> None:
    words = ["list"] if module == "recipes" else []
    program = f"import runpy, sys; sys.argv[1:] = {words}; runpy.run_module({module!r}, run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(120) == 128 + signal.SIGPIPE
    assert "Traceback" not in process.stderr.read()
