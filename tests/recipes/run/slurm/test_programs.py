"""What Slurm's programs are called with, and how their answers are read."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from recipes.run.slurm.programs import NoAnswer, SlurmBusy, read_queue, state_of, submit

Program = Callable[[str, str], None]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """Return a function that puts a program of a name and a text in Python on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def write(name: str, text: str) -> None:
        (tmp_path / name).write_text(f"#!{sys.executable} -S\n{text}\n")
        (tmp_path / name).chmod(0o755)

    return write


@pytest.fixture
def variables(program: Program, tmp_path: Path) -> Callable[[], dict[str, str]]:
    """Return a function that asks for the queue and returns the variables that squeue was called with."""
    seen = tmp_path / "seen.json"
    program("squeue", f"import json, os; open({str(seen)!r}, 'w').write(json.dumps(dict(os.environ)))")

    def call() -> dict[str, str]:
        read_queue()
        found: dict[str, str] = json.loads(seen.read_text())
        return found

    return call


def test_the_chosen_cluster_and_the_users_credentials_count(
    variables: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"SLURM_CONF": "/c", "SLURM_CONF_SERVER": "head", "SLURM_CLUSTERS": "big", "SLURM_JWT": "token"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert given.items() <= variables().items()


def test_a_cluster_for_sbatch_is_that_of_all_programs(
    variables: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CLUSTERS", "small")
    monkeypatch.setenv("SBATCH_CLUSTERS", "big")
    assert variables()["SLURM_CLUSTERS"] == "big"


def test_the_job_that_this_process_runs_in_is_not_passed_on(
    variables: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CPU_BIND", "mask")
    monkeypatch.setenv("SLURM_JWT", "an expired token")
    assert not {"SLURM_JOB_ID", "SLURM_CPU_BIND", "SLURM_JWT"} & variables().keys()


@pytest.mark.parametrize("name", ["SQUEUE_PARTITION", "SQUEUE_FORMAT2", "SCANCEL_INTERACTIVE", "SBATCH_WAIT"])
def test_options_of_the_users_own_calls_do_not_hide_jobs_nor_ask(
    variables: Callable[[], dict[str, str]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    assert name not in variables() and variables()["SBATCH_ACCOUNT"] == "mine"


def test_the_state_of_a_job_is_found_beneath_the_name_of_its_cluster(program: Program) -> None:
    program("squeue", "print('CLUSTER: big'); print('RUNNING')")
    assert state_of("7_0") == "RUNNING"
    program("squeue", "")
    assert state_of("7_0") == ""


@pytest.mark.parametrize(
    "printed",
    ["712", "712;big", "Submitted batch job 712", "Submitted batch job 712 on cluster big", "Welcome\n712\n5 GB"],
)
def test_the_number_of_a_job_is_read_from_whatever_a_site_prints_around_it(program: Program, printed: str) -> None:
    program("sbatch", f"print({printed!r})")
    assert submit(Path("script.sh"), []) == "712"


def test_no_number_of_a_job_is_no_answer(program: Program) -> None:
    program("sbatch", "")
    with pytest.raises(NoAnswer, match="printed no number of a job"):
        submit(Path("script.sh"), [])


@pytest.mark.parametrize(
    "message", ["Communication connection failure", "Message send failure", "Slurm backup controller in standby mode"]
)
def test_a_controller_that_is_away_is_asked_again(program: Program, message: str) -> None:
    program("sbatch", f"raise SystemExit('sbatch: error: Batch job submission failed: {message}')")
    with pytest.raises(SlurmBusy):
        submit(Path("script.sh"), [])
