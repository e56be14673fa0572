"""The record of a run's environment: what tells machines apart."""

import subprocess
from pathlib import Path

import pytest
import torch

from common.training import environment as module

CPUINFO = """\
processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: {model}
model name\t: AMD EPYC
stepping\t: 1

processor\t: 1
cpu family\t: 25
model\t\t: 99
model name\t: another
"""


def test_cpus_of_one_name_are_told_apart(tmp_path: Path, monkeypatch) -> None:
    described = []
    for model in (1, 17):
        path = tmp_path / f"cpuinfo{model}"
        path.write_text(CPUINFO.format(model=model))
        content = module._cpuinfo(path)
        monkeypatch.setattr(module, "_cpuinfo", lambda content=content: content)
        described.append((module.processor(), module.processor_model()))
        monkeypatch.undo()
    assert described == [
        ("AMD EPYC", "family 25, model 1, stepping 1"),
        ("AMD EPYC", "family 25, model 17, stepping 1"),
    ]


def test_a_system_without_cpuinfo_has_a_name_and_no_model(tmp_path: Path, monkeypatch) -> None:
    content = module._cpuinfo(tmp_path / "absent")
    monkeypatch.setattr(module, "_cpuinfo", lambda: content)
    monkeypatch.setattr(module.platform, "processor", lambda: "arm")
    assert (module.processor(), module.processor_model()) == ("arm", "")


def test_the_record_names_model_and_instructions() -> None:
    record = module.environment(torch.device("cpu"))
    assert record["processor"] == module.processor()
    assert record["processor_model"] == module.processor_model()
    assert record["instructions"] == torch.backends.cpu.get_cpu_capability()


def test_a_copy_within_a_repository_of_somebody_elses_has_no_commit(tmp_path: Path) -> None:
    commit(tmp_path)
    (tmp_path / "site-packages").mkdir()
    assert len(module._git("rev-parse", "HEAD", root=tmp_path)) == 40
    assert module._git("rev-parse", "HEAD", root=tmp_path / "site-packages") == ""


def test_the_repository_of_a_hook_is_not_that_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tmp_path / "own")
    commit(tmp_path / "hook", "another")
    expected = module._git("rev-parse", "HEAD", root=tmp_path / "own")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "hook" / ".git"))
    assert module._git("rev-parse", "HEAD", root=tmp_path / "own") == expected


def commit(folder: Path, message: str = "first") -> None:
    """Make a repository with a commit."""
    folder.mkdir(exist_ok=True)
    author = ("-c", "user.name=a", "-c", "user.email=a@b.example")
    for words in (("init", "-q"), (*author, "commit", "-q", "--allow-empty", "-m", message)):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
