"""What an installation takes along: every module, and every file beside them that they read."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
TOP = sorted({name.split(".")[0] for name in SETTINGS["packages"]})


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent.relative_to(ROOT) for name in TOP for path in (ROOT / name).rglob("*.py")}
    assert sorted(SETTINGS["packages"]) == sorted(".".join(folder.parts) for folder in folders)


def test_every_other_file_of_a_package_is_installed() -> None:
    for name in TOP:
        files = {path for path in (ROOT / name).rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
        patterns = SETTINGS["package-data"].get(name, [])
        installed = {path for pattern in patterns for path in (ROOT / name).glob(pattern)}
        assert sorted(files - installed) == []
