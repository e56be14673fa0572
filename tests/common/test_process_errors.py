"""Errors of several processes: which of them are printed, and with what."""

import signal
import socket
from collections.abc import Iterator

import pytest

from common import process_errors
from common.process_errors import print_error


@pytest.fixture(autouse=True)
def unchanged_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(process_errors, "PATIENCE_SECONDS", 0.0)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("is_shared", [True, False])
def test_main_process_prints_every_error(capsys: pytest.CaptureFixture[str], is_shared: bool) -> None:
    print_error("no such file", 0, is_shared=is_shared)
    assert capsys.readouterr().err == "error: no such file\n"


def test_another_process_prints_its_own_errors_with_rank_and_host(capsys: pytest.CaptureFixture[str]) -> None:
    print_error("all have it", 3, is_shared=True)
    print_error("no such file", 3)
    assert capsys.readouterr().err == f"rank 3 on {socket.gethostname()}: error: no such file\n"


def test_another_process_can_be_ended_before_it_prints() -> None:
    """A run's handler of SIGTERM would only ask it to stop."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    print_error("no such file", 3)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
