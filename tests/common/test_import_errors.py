"""Libraries that cannot be imported: one message with the variable that is at fault, and other errors unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.import_errors import explain_import

ROOT = Path(__file__).resolve().parents[2]


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


def test_shared_libraries_of_another_installation_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = _error_of_import(tmp_path, monkeypatch, "raise ImportError('libtorch.so: undefined symbol: ncclReduce')")
    message = explain_import(error, {"LD_LIBRARY_PATH": "/opt/nccl/lib", "LD_PRELOAD": ""}) or ""
    assert "Correct or unset LD_LIBRARY_PATH and rerun" in message


@pytest.mark.parametrize("file", ["datasets.py", "datasets/__init__.py"])
@pytest.mark.parametrize(
    ("code", "use"),
    [
        ("", "import datasets; datasets.Features"),
        ("", "from datasets import Features"),
        ("", "import datasets.features"),
        ("import nothing_of_this_name", "import datasets"),
    ],
)
def test_a_module_of_the_users_own_that_has_the_name_of_a_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, code: str, use: str
) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "datasets"]:
        monkeypatch.delitem(sys.modules, name)
    source = compile(use, str(ROOT / "common" / "example.py"), "exec")
    try:
        with pytest.raises((AttributeError, ImportError)) as caught:
            exec(source, {"__name__": "common.example"})
        here = explain_import(caught.value, {}) or ""
        on_path = explain_import(caught.value, {"PYTHONPATH": f"/elsewhere:{tmp_path}"}) or ""
        monkeypatch.setattr("site.getusersitepackages", lambda: str(tmp_path))
        of_user = explain_import(caught.value, {}) or ""
    finally:
        sys.modules.pop("datasets", None)
    assert (
        here.startswith(f"`datasets` was imported from {tmp_path / file}") and "Rename it, or change to another" in here
    )
    assert f"Take {tmp_path} off PYTHONPATH and rerun" in on_path
    assert "Set PYTHONNOUSERSITE=1 and rerun" in of_user


def test_what_a_library_of_this_environment_lacks_is_not_explained() -> None:
    import yaml

    with pytest.raises(AttributeError) as caught:
        yaml.nothing_of_this_name  # type: ignore[attr-defined]  # noqa: B018
    assert explain_import(caught.value, {}) is None


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
