"""Launcher: the exit code of the run's processes is the launcher's, and signals reach them."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from accelerate.commands.launch import launch_command_parser

from common import launch
from common.launch import first_failure, main

ROOT = Path(launch.__file__).resolve().parents[1]
ONE = ("--num_processes=1", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no")
TWO = ("--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no")
EXIT = "import os, sys; rank = os.environ.get('RANK', '0'); sys.exit(int(sys.argv[1 + int(rank)]))"
WAIT = """
import os, pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
pathlib.Path(sys.argv[1] + os.environ.get("RANK", "0")).touch()
time.sleep(120)
"""


@pytest.fixture(autouse=True)
def no_configuration_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))


def write_script(folder: Path, content: str) -> str:
    (folder / "script.py").write_text(content)
    return str(folder / "script.py")


@pytest.mark.parametrize("code", [0, 2, 75, 130])
def test_exit_code_of_the_run_is_that_of_the_launcher(tmp_path: Path, code: int) -> None:
    assert main([*ONE, write_script(tmp_path, EXIT), str(code)]) == code


def test_exit_code_of_one_of_two_processes(tmp_path: Path) -> None:
    assert main([*TWO, "--main_process_port=0", write_script(tmp_path, EXIT), "0", "75"]) == 75


def test_launches_on_one_machine_meet_at_free_ports(tmp_path: Path) -> None:
    script = write_script(
        tmp_path, "import os, sys; open(sys.argv[1] + os.environ['RANK'], 'w').write(os.environ['MASTER_PORT'])"
    )
    assert main([*TWO, script, str(tmp_path / "port-")]) == 0
    ports = {(tmp_path / f"port-{rank}").read_text() for rank in range(2)}
    assert len(ports) == 1 and ports != {"29500"}


@pytest.mark.parametrize(
    ("words", "content", "port"),
    [
        (TWO, "", 0),
        ((*TWO, "--main_process_port=29511"), "", 29511),
        (("--multi_gpu", "--num_machines=2", "--num_processes=4"), "", None),
        (("--num_processes=2",), "main_process_port: 29512\n", None),  # accelerate takes that of the file
        (("--num_processes=4",), "num_machines: 2\n", None),
    ],
)
def test_a_port_is_chosen_only_where_none_is_set_on_one_machine(
    tmp_path: Path, words: tuple[str, ...], content: str, port: int | None
) -> None:
    if content:
        (tmp_path / "home" / "accelerate").mkdir(parents=True)
        (tmp_path / "home" / "accelerate" / "default_config.yaml").write_text(content)
    options = launch_command_parser().parse_args([*words, "script.py"])
    launch._choose_port(options, words)
    assert options.main_process_port == port


def test_signal_that_killed_a_process_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = write_script(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert main([*ONE, script]) == 128 + signal.SIGKILL
    assert "process 0 of the run was killed by SIGKILL" in capsys.readouterr().err


def test_rank_that_failed_first_counts() -> None:
    assert first_failure({0: (1, 20), 1: (2, 10)}) == 1
    assert first_failure({0: (1, 10), 1: (-9, 10)}) == 1  # the other one lost its peer
    assert first_failure({0: (2, 10), 1: (-9, 10)}) == 1  # the other one has lost its peer
    assert first_failure({0: (-15, 10), 1: (1, 10)}) == 1  # the other one was stopped by torch's agent
    assert first_failure({0: (75, 10), 1: (75, 10)}) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--use_fsdp", *ONE), "--use_fsdp: no stage can use it"),
        (("--multi_gpu", *ONE), "at least 2 processes"),
        (("--config_file=missing.yaml", *ONE), "missing.yaml"),
    ],
)
def test_launch_that_cannot_work_ends_in_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert main([*arguments, write_script(tmp_path, EXIT), "0"]) == 2
    assert words in capsys.readouterr().err


def test_unusable_setting_of_the_configuration_file_ends_before_the_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home" / "accelerate").mkdir(parents=True)
    (tmp_path / "home" / "accelerate" / "default_config.yaml").write_text("distributed_type: FSDP\n")
    assert main([*ONE, write_script(tmp_path, EXIT), "0"]) == 2
    assert "distributed_type: FSDP" in capsys.readouterr().err


def test_launcher_that_cannot_import_accelerate_ends_in_one_message() -> None:
    environment = os.environ | {"TORCH_LOGS": "nonsense"}
    words = [sys.executable, "-m", "common.launch", *ONE, "-m", "pretrain"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Correct or unset TORCH_LOGS = 'nonsense'" in done.stderr and "Traceback" not in done.stderr


def test_configuration_file_that_cannot_be_opened_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def denied(path: Path, **_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", denied)
    path = tmp_path / "own.yaml"
    path.touch()
    assert main([f"--config_file={path}", *ONE, "script.py"]) == 2
    assert f"{path}: accelerate cannot read this configuration file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "number", "ranks"), [(ONE, signal.SIGTERM, 1), (ONE, signal.SIGINT, 1), (TWO, signal.SIGTERM, 2)]
)
def test_signal_reaches_all_processes_and_their_code_comes_back(
    tmp_path: Path, options: tuple[str, ...], number: int, ranks: int
) -> None:
    words = [*options, "--main_process_port=0", write_script(tmp_path, WAIT), str(tmp_path / "ready-")]
    launcher = subprocess.Popen([sys.executable, "-m", "common.launch", *words], cwd=ROOT, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not all((tmp_path / f"ready-{rank}").exists() for rank in range(ranks)):
            assert launcher.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        launcher.send_signal(number)
        assert launcher.wait(100) == 75
    finally:
        if launcher.poll() is None:
            launcher.kill()
