"""Programs whose reader closes the pipe."""

import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.pipes import exit_with


@pytest.mark.parametrize("module", ["common.models", "recipes"])
def test_a_reader_that_closes_the_pipe_early_leaves_no_traceback(module: str) -> None:
    words = ["list"] if module == "recipes" else ["vit_mini"]
    program = f"import runpy, sys; sys.argv[1:] = {words}; runpy.run_module({module!r}, run_name='__main__')"
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(120) == 128 + signal.SIGPIPE
    assert "Traceback" not in process.stderr.read()


def test_interrupted_start_leaves_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> int:
        raise KeyboardInterrupt  # while torch is imported

    with pytest.raises(SystemExit) as exit_:
        exit_with(main)
    assert exit_.value.code == 128 + signal.SIGINT and capsys.readouterr().err == "interrupted\n"


def test_removed_working_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "removed").mkdir()
    monkeypatch.chdir(tmp_path / "removed")
    (tmp_path / "removed").rmdir()
    with pytest.raises(SystemExit) as exit_:
        exit_with(lambda: 0)
    assert exit_.value.code == 2 and "the working directory was removed" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["pretrain", "finetune", "common.evaluation"])
def test_stages_exit_without_a_traceback_when_interrupted(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("common.command.run_stage", lambda *_, **__: interrupted(None))
    monkeypatch.setattr("sys.argv", [module, *(["knn"] if module == "common.evaluation" else [])])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_module(module, run_name="__main__")
    assert exit_.value.code == 128 + signal.SIGINT


def test_an_abandoned_library_does_not_delay_the_exit() -> None:
    """As W&B does, which waits at the exit of the interpreter for a server that cannot be reached."""
    program = """
import atexit, time
from common.pipes import abandon_background, exit_with
atexit.register(time.sleep, 600)
def main():
    print("done")
    abandon_background()
    return 3
exit_with(main)
"""
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (process.returncode, process.stdout) == (3, "done\n")
