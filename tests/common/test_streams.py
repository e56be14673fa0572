"""Standard streams that are closed, full, without a reader, or without the characters that are printed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RECIPES, TINY

REPOSITORY = Path(__file__).resolve().parents[2]
PRINTS = """
import os, sys
from common.pipes import exit_with
def main():
    print("ü\\udcff", flush=True)
    print("\\u2192", file=sys.stderr, flush=True)
    open({file!r}, "w").write("content")
    os.system("echo printed by another program >&2; echo printed by another program")
    return 5
exit_with(main, ignore_closed_pipe={ignore})
"""


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a shell command whose `python` is that of the tests."""
    variables = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **environment}
    command = re.sub(r"\bpython\b", sys.executable, command)
    return subprocess.run(
        ["bash", "-c", command], env=variables, capture_output=True, encoding="utf-8", errors="replace", timeout=300
    )


@pytest.fixture
def prints(tmp_path: Path) -> str:
    """Return the command of a program that prints to all streams, writes a file and ends with the code 5."""
    (tmp_path / "program.py").write_text(PRINTS.format(file=str(tmp_path / "file"), ignore=True))
    return f"python {tmp_path / 'program.py'}"


@pytest.mark.parametrize(
    "closed", ["2>&-", "1>&-", "0<&-", "0<&- 1>&- 2>&-", ">/dev/full 2>&1", ">/dev/full 2>&-", "</dev/null >&0 2>&0"]
)
def test_program_does_not_notice_its_standard_streams(tmp_path: Path, prints: str, closed: str) -> None:
    done = shell(f"{prints} {closed}")
    assert done.returncode == 5 and "Traceback" not in done.stdout + done.stderr
    assert (
        tmp_path / "file"
    ).read_text() == "content"  # no output of another program: the file got no standard descriptor


def test_program_goes_on_without_a_reader(tmp_path: Path, prints: str) -> None:
    done = shell(f"(sleep 1; {prints} 2>&1; echo $? >{tmp_path / 'code'}) | true")
    assert (tmp_path / "code").read_text() == "5\n" and (tmp_path / "file").read_text() == "content", done.stderr


def test_program_whose_work_is_its_output_ends_without_a_reader(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PRINTS.format(file=str(tmp_path / "file"), ignore=False))
    shell(f"(sleep 1; python {tmp_path / 'program.py'}; echo $? >{tmp_path / 'code'}) | true")
    assert (tmp_path / "code").read_text() == f"{128 + signal.SIGPIPE}\n" and not (tmp_path / "file").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_characters_that_an_encoding_lacks_are_escaped(prints: str, encoding: str) -> None:
    done = shell(prints, PYTHONIOENCODING=encoding)
    assert done.returncode == 5 and "\\udcff" in done.stdout, done.stderr


def test_full_pipe_of_a_non_blocking_stream_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    program = "from common.pipes import exit_with; exit_with(lambda: print('x' * 300_000) or 3)"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=writer, cwd=REPOSITORY)
    os.close(writer)
    with open(reader, "rb") as file:
        assert len(file.read()) == 300_001
    assert process.wait(60) == 3


PACKAGES = ("common", "pretrain", "finetune", "recipes", "benchmarks")
COMMAND_LINES = {
    "pretrain recipes/digits/pretrain.yaml --dry-run": 0,
    "common.evaluation --help": 0,
    "common.evaluation token_labels recipes/digits/token_labels.yaml --dry-run": 2,
    "recipes list": 0,
    "recipes plan nothing": 2,
    "recipes report nowhere": 2,
    "common.models vit_mini": 0,
    "benchmarks --help": 0,
}
"""Words after `python -m`, and exit codes."""


def test_every_command_ends_by_the_same_function() -> None:
    """Its reaction to streams is tested above; starting each of the commands would take longer than all that."""
    programs = [
        path
        for name in PACKAGES
        for path in (REPOSITORY / name).rglob("__main__.py")
        if path.parent.name != "two_stage_vit"
    ]
    others = [path for path in programs if not re.search(r"^ +(sys\.exit\()?exit_with\(", path.read_text(), re.M)]
    assert len(programs) >= 6 and others == []


@pytest.mark.parametrize("words", COMMAND_LINES)
def test_commands_work_without_standard_streams(words: str) -> None:
    assert shell(f"cd {REPOSITORY} && python -m {words} 2>&- 1>&-").returncode == COMMAND_LINES[words]


def test_run_without_standard_streams_is_complete(tmp_path: Path) -> None:
    words = f"finetune {RECIPES}/digits/finetune.yaml {' '.join(TINY['finetune'])} data.workers=1 train.epochs=1"
    done = shell(f"python -m {words} optim.warmup_epochs=0 out={tmp_path / 'run'} 2>&- 1>&-")
    assert done.returncode == 0 and (tmp_path / "run" / "result.json").exists()
