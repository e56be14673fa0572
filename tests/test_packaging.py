"""An installation contains every module and every data file that the modules read."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from setuptools import find_namespace_packages

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
PACKAGES = find_namespace_packages(str(ROOT), include=SETTINGS["packages"]["find"]["include"])
TOP = ["common", "finetune", "pretrain", "recipes"]
BUILT = (".pyc", ".so")


def test_exactly_the_four_packages_are_installed() -> None:
    assert sorted({name.split(".")[0] for name in PACKAGES}) == TOP
    folders = {path.parent.relative_to(ROOT) for name in TOP for path in (ROOT / name).rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} <= set(PACKAGES)


def test_program_is_installed_under_a_name_of_its_own() -> None:
    """The package that the console script imports is outside of the four, whose names the user may have taken."""
    settings = SETTINGS["packages"]["find"]
    folders = [ROOT / place for place in settings["where"] if (ROOT / place) != ROOT]
    found = {name for folder in folders for name in find_namespace_packages(str(folder), include=settings["include"])}
    assert found == {"two_stage_vit"}
    script = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["two-stage-vit"]
    assert script == "two_stage_vit:main"


def test_all_package_data_is_installed() -> None:
    for name in TOP:
        files = {path for path in (ROOT / name).rglob("*") if path.is_file() and path.suffix not in (".py", *BUILT)}
        patterns = SETTINGS["package-data"].get(name, [])
        installed = {path for pattern in patterns for path in (ROOT / name).glob(pattern)}
        assert sorted(files - installed) == []


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("has_pip", [True, False])
def test_makefile_installs_into_an_environment_with_or_without_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_pip: bool
) -> None:
    """uv makes one without pip; Debian's python3 leaves one behind where the package of venv is missing."""
    log = tmp_path / "log"
    fake = f'''#!/bin/sh
echo "$PIP_USER $PYTHONPATH $@" >> "{log}"
[ "$*" != "-m pip --version" ] || {"true" if has_pip else "false"}
'''
    program = tmp_path / "env" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text(fake)
    program.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setenv("PIP_USER", "1")  # as sites set it, which pip refuses in an environment
    monkeypatch.setenv("PYTHONPATH", "/site/packages")
    words = ["make", "-C", str(tmp_path), "env/.installed", "VENV=env", f"PYTHON={sys.executable}"]
    subprocess.run(words, check=True, capture_output=True)
    calls = log.read_text().splitlines()
    assert any("-m ensurepip" in call for call in calls) is not has_pip
    of_pip = [call for call in calls if "pip" in call]
    assert sum("pip install" in call for call in of_pip) == 2 and all(call.startswith("0  -m ") for call in of_pip)


def test_makefile_reinstalls_when_compiled_sources_change() -> None:
    rule = next(line for line in (ROOT / "Makefile").read_text().splitlines() if line.startswith("$(STAMP):"))
    patterns = re.findall(r"\$\(wildcard ([^)]+)\)", rule)
    depends = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    assert SETTINGS["ext-modules"]
    for module in SETTINGS["ext-modules"]:
        assert {*module["sources"], *module["depends"]} <= depends
        folders = {(ROOT / source).parent for source in module["sources"]}
        files = {path.relative_to(ROOT).as_posix() for folder in folders for path in folder.iterdir()}
        assert files == {*module["sources"], *module["depends"]}
