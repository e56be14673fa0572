"""Processes that do not find each other: one message with address, port and remedy."""

import socket
from collections.abc import Iterator

import pytest
import torch

from common.errors import ProcessError
from common.training import rendezvous
from common.training.accelerator import build_accelerator
from common.training.rendezvous import explained_rendezvous


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def taken_port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        monkeypatch.setenv("MASTER_PORT", str(port))
        yield port


def test_taken_port_is_named_with_the_remedy(taken_port: int) -> None:
    expected = pytest.raises(ProcessError, match=f"MASTER_PORT = {taken_port}.* is taken.*Set another MASTER_PORT")
    with expected, explained_rendezvous():
        torch.distributed.init_process_group("gloo")


def test_group_that_never_completes_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    with pytest.raises(ProcessError, match="WORLD_SIZE = 2.*do not find each other"), explained_rendezvous():
        torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=1))


def test_address_that_is_not_found_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "RESOLVE_SECONDS", 0.0)
    monkeypatch.setattr(rendezvous, "_POLL_SECONDS", 0.0)
    monkeypatch.setenv("MASTER_ADDR", "no-such-host.invalid")
    expected = pytest.raises(ProcessError, match=r"MASTER_ADDR = no-such-host.invalid: .*machine of process 0")
    with expected, explained_rendezvous():
        raise AssertionError("the address is checked first")


@pytest.mark.parametrize("port", ["99999", "abc"])
def test_port_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("MASTER_PORT", port)
    with pytest.raises(ProcessError, match=f"MASTER_PORT = {port}"), explained_rendezvous():
        torch.distributed.init_process_group("gloo")


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(ValueError, match="^mixed precision$"), explained_rendezvous():
        raise ValueError("mixed precision")


def test_the_message_is_that_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise ProcessError("the port is taken", 75)

    monkeypatch.setattr("common.training.accelerator._accelerator", fail)
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ProcessError, match="^the port is taken$") as caught:
        build_accelerator("fp32")
    assert caught.value.exit_code == 75
