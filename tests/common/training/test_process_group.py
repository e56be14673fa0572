"""Decisions of two processes: the same error in both, with the rank of the process that has it."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from common.errors import SharedError, UserError
from common.training.folder_view import describe_folder
from common.training.process_group import ProcessGroup

Action = Callable[[ProcessGroup, int], Any]
HOST = socket.gethostname()


def _fail(error: Exception | None) -> None:
    if error is not None:
        raise error


ACTIONS: dict[str, Action] = {
    "gather": lambda group, rank: group.gather(rank * 10),
    "same": lambda group, rank: group.check_same(["step 20", None if rank else "no result"]),
    "step": lambda group, rank: group.check_same(["none" if rank else "step 20", f"recipe {rank}"]),
    "detail": lambda group, rank: group.check_same(["step 20", f"checksum {rank}"]),
    "read here": lambda group, rank: group.read(lambda: _fail(UserError("wrong") if rank == 1 else None)),
    "read both": lambda group, rank: group.read(lambda: _fail(UserError("wrong"))),
    "read system": lambda group, rank: group.read(lambda: _fail(OSError("lost") if rank == 1 else None)),
    "write": lambda group, rank: group.write("out = run:", lambda: _fail(OSError("full"))),
}


def _run_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    group = ProcessGroup(SimpleNamespace(num_processes=2, process_index=rank, is_main_process=rank == 0))  # type: ignore[arg-type]
    results: dict[str, Any] = {}
    for name, action in ACTIONS.items():
        try:
            results[name] = action(group, rank)
        except SharedError as error:
            results[name] = str(error)
    Path(folder, f"{rank}.json").write_text(json.dumps(results))
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what each of two processes gets, by action."""
    folder: Path = tmp_path_factory.mktemp("gloo")
    multiprocessing.start_processes(_run_process, args=(str(folder),), nprocs=2, start_method="forkserver")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_both_processes_get_the_same(results: list[dict[str, Any]]) -> None:
    assert results[0] == results[1] and results[0]["gather"] == [0, 10] and results[0]["same"] is None


def test_the_first_difference_is_shown_with_its_ranks(results: list[dict[str, Any]]) -> None:
    remedy = "out must lie on a disk that all nodes share"
    assert results[0]["step"] == f"processes see different run folders (step 20 on rank 0, none on rank 1); {remedy}"
    assert "(checksum 0 on rank 0, checksum 1 on rank 1)" in results[0]["detail"]


def test_an_error_of_one_process_names_its_rank_and_host(results: list[dict[str, Any]]) -> None:
    assert results[0]["read here"] == f"rank 1 on {HOST}: wrong"
    assert results[0]["read system"] == f"rank 1 on {HOST}: lost. Fix this and rerun the same command."
    assert results[0]["read both"] == "wrong"
    assert results[0]["write"].startswith("out = run: cannot be written (full).")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, ("none", "no result", "no run")),
        ({"config.yaml": "a: 1\n"}, ("none", "no result", "recipe ")),
        ({"config.yaml": "a: 1\n", "checkpoints/step-000000020/x": ""}, ("step 20", "no result", "recipe ")),
        ({"result.json": '{"status": "finished"}'}, ("none", "status finished", "no run")),
        ({"result.json": "torn"}, ("none", "a result that cannot be read", "no run")),
    ],
)
def test_description_of_a_folder(tmp_path: Path, files: dict[str, str], words: tuple[str, ...]) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = describe_folder(tmp_path)
    assert all((each or "").startswith(word) for each, word in zip(found, words, strict=True)), found


def test_description_of_a_folder_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").symlink_to(tmp_path / "missing")
    assert describe_folder(tmp_path) == (None, "no result", "no run")
