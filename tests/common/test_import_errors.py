"""Libraries that cannot be imported: one message with the variable that is at fault, and other errors unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.import_errors import explain_import


def _error_of_import(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> Exception:
    (folder / "library_at_fault.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    try:
        __import__("library_at_fault")
    except Exception as error:
        return error
    finally:
        sys.modules.pop("library_at_fault", None)
    raise AssertionError("it can be imported")


def test_the_variable_that_a_library_cannot_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def read():\n    int('abc')\nread()\n"
    error = _error_of_import(tmp_path, monkeypatch, code)
    message = explain_import(error, {"TIMEOUT": "abc", "OTHER": "1", "SHELL": "sh"}) or ""
    assert message.startswith("library_at_fault cannot be imported (ValueError: invalid literal for int()")
    assert "Correct or unset TIMEOUT = 'abc' and rerun" in message and "OTHER" not in message


def test_a_broken_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = _error_of_import(tmp_path, monkeypatch, "raise OSError('libcudart.so.12: cannot open shared object file')")
    message = explain_import(error, {"HOME": "/nowhere", "_": "python", "KIND": "bj"}) or ""
    assert (
        "library_at_fault cannot be imported (OSError: libcudart.so.12" in message
        and "Check its installation" in message
    )


def test_too_little_address_space_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = _error_of_import(tmp_path, monkeypatch, "raise ImportError('libtorch.so: failed to map segment')")
    assert "Raise the limit on memory (`ulimit -v`)" in (explain_import(error, {}) or "")


def test_errors_after_an_import_are_not_explained() -> None:
    try:
        raise ValueError("a defect")
    except ValueError as error:
        assert explain_import(error, {}) is None


@pytest.mark.parametrize("module", ["finetune", "pretrain", "common.evaluation"])
def test_torch_that_cannot_read_a_variable_is_one_message(module: str) -> None:
    words = ["knn"] if module == "common.evaluation" else []
    command = [sys.executable, "-m", module, *words, "recipe.yaml"]
    done = subprocess.run(command, env={**os.environ, "TORCH_LOGS": "nonsense"}, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: torch cannot be imported") and "TORCH_LOGS = 'nonsense'" in done.stderr
