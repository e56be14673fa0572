"""A fake Slurm on PATH, and engines whose jobs run the fake stage."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm, install

from recipes.run.engine import Job, TaskCommand
from recipes.run.slurm.engine import SlurmEngine
from recipes.study.resources import Resources
from recipes.study.slurm_section import SlurmEntry

BuildEngine = Callable[..., SlurmEngine]


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlurm]:
    """Install a fake Slurm on PATH."""
    slurm = install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    yield slurm
    slurm.stop()


@pytest.fixture
def replace_program(fake_slurm: FakeSlurm) -> Callable[[str, str], str]:
    """Return a function that replaces a program of the fake Slurm by another text, and returns the text that it had."""

    def replace(name: str, text: str) -> str:
        program, new = fake_slurm.folder / name, fake_slurm.folder / "new"
        before = program.read_text()
        new.write_text(text)
        new.chmod(0o755)
        new.replace(program)  # one that runs cannot be written to
        return before

    return replace


@pytest.fixture
def cluster(fake_slurm: FakeSlurm, tmp_path: Path) -> BuildEngine:
    """Return a function that builds engines whose jobs run the fake stage, or another command."""
    script = str(tmp_path / "fake_stage.py")

    def run(job: Job, _: Resources) -> list[str]:
        return [sys.executable, "-S", script, job.module, *job.arguments]

    def build(slots: int = 1000, command: TaskCommand = run) -> SlurmEngine:
        return SlurmEngine(
            SlurmEntry(),
            command,
            slots,
            poll_seconds=0.1,
            visible_seconds=5.0,
        )

    return build
