"""Folders and modules of the user's own that have our packages' names do not take their place."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run_python(folder: Path, *words: str, path: str) -> "subprocess.CompletedProcess[str]":
    """Run Python in `folder`, which is first on the import path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=folder, env=environment | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )


@pytest.fixture(params=["common/__init__.py", "common.py"])
def project(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A project of the user's own with a package or module `common`."""
    path = tmp_path / "project" / request.param
    path.parent.mkdir(parents=True)
    path.write_text("LEARNING_RATE = 1e-3\n")
    return tmp_path / "project"


@pytest.mark.parametrize("package", ["pretrain", "finetune", "recipes"])
def test_packages_find_their_own_common(project: Path, package: str) -> None:
    done = run_python(project, "-c", f"import {package}, common.errors; print(common.__file__)", path=str(ROOT))
    assert done.stdout.strip() == str(ROOT / "common" / "__init__.py"), done.stderr


def test_strangers_common_that_is_in_use_is_named(project: Path) -> None:
    done = run_python(project, "-c", "import common, pretrain", path=str(ROOT))
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: `common` has been imported from") and str(project) in last


def test_import_path_is_left_alone_without_a_stranger(tmp_path: Path) -> None:
    code = "import sys; before = list(sys.path); import recipes; print(sys.path == before)"
    assert run_python(tmp_path, "-c", code, path=str(ROOT)).stdout.strip() == "True"


def test_program_finds_our_packages_in_any_folder(project: Path) -> None:
    """Also where the user's own folder is on PYTHONPATH, and for the processes that the program starts."""
    for name in ("finetune.py", "pretrain.py", "recipes.py"):
        (project / name).write_text("raise SystemExit('a script of the user')")
    path = os.pathsep.join([str(project), str(ROOT / "common" / "program")])
    shown = "import common, finetune, pretrain, recipes; print(common.__file__, finetune.__file__)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {shown!r}], check=True)"
    done = run_python(
        project, "-c", f"import two_stage_vit; two_stage_vit.use_own_packages(); {shown}; {child}", path=path
    )
    own = [str(ROOT / name / "__init__.py") for name in ("common", "finetune")]
    assert sorted(done.stdout.split()) == sorted(own * 2), done.stderr


def test_program_runs_a_command(tmp_path: Path) -> None:
    (tmp_path / "recipes.py").write_text("raise SystemExit('a script of the user')")
    done = run_python(tmp_path, "-m", "two_stage_vit", "recipes", "list", path=str(ROOT / "common" / "program"))
    assert done.returncode == 0 and "quickstart" in done.stdout, done.stderr


def test_program_lists_its_commands(tmp_path: Path) -> None:
    path = str(ROOT / "common" / "program")
    done = run_python(tmp_path, "-m", "two_stage_vit", path=path)
    assert done.returncode == 0 and "evaluate" in done.stdout
    done = run_python(tmp_path, "-m", "two_stage_vit", "train", path=path)
    assert done.returncode == 2 and done.stderr.startswith("error: train: no such command")


def test_windows_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(SystemExit, match="error: two-stage-vit does not run on Windows itself. Install it in WSL"):
        runpy.run_path(str(ROOT / "common" / "__init__.py"))
