"""Loader workers that fail, end, hang or cannot start: one error with the remedy, and a wait that a stop signal ends."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from common.data.augment.multi_crop import Views
from common.data.images import ImageArray
from common.data.loading.batch_loader import BatchLoader, abandon_workers
from common.data.loading.loader import Batch, build_loader
from common.data.loading.worker_failures import WorkerBug
from common.errors import ProcessError, UserError
from common.interruption import WaitInterrupted, stop_signals
from common.rng import SampleKey
from common.training import signals


class Pictures:
    """Four images; `before(index)` is called in the worker before each is read."""

    labels = None

    def __init__(self, before: Callable[[int], None]) -> None:
        self.before = before

    def __len__(self) -> int:
        return 4

    def image(self, index: int) -> ImageArray:
        self.before(index)
        return np.zeros((4, 4, 3), np.uint8)


def to_views(images: object, keys: list[SampleKey]) -> Views:
    return Views([torch.zeros(1, len(keys), 3, 4, 4, dtype=torch.uint8)], [], None)


def loader_of(before: Callable[[int], None], workers: int = 1) -> BatchLoader[Batch]:
    return build_loader(Pictures(before), to_views, [[SampleKey(0, i, i, 0)] for i in range(4)], workers=workers)


@pytest.fixture(autouse=True)
def no_workers_left() -> Iterator[None]:
    yield
    abandon_workers()
    assert not multiprocessing.active_children()


def break_sharing(error: Exception) -> Callable[[int], None]:
    """Let the thread of a worker that puts batches into shared memory fail."""

    def before(_: int) -> None:
        def fail(*_: object) -> None:
            raise error

        torch.UntypedStorage._share_fd_cpu_ = fail

    return before


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"),
            "--shm",
        ),
        (OSError("AF_UNIX path too long"), "TMPDIR"),
        (OSError(24, "Too many open files"), "ulimit -n"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(5, "Input/output error"), "Input/output error"),
    ],
)
def test_failure_of_a_feeder_thread_is_one_error_with_the_remedy(error: Exception, words: str) -> None:
    with pytest.raises(ProcessError, match=words):
        list(loader_of(break_sharing(error)))


def test_bug_in_a_feeder_thread_keeps_its_traceback() -> None:
    with pytest.raises(WorkerBug, match=r"(?s)in fail.*KeyError"):
        list(loader_of(break_sharing(KeyError("a bug"))))


def test_failure_of_the_thread_that_hands_out_descriptors_ends_the_worker() -> None:
    """Python's own thread catches all errors, and goes on without the parent's connection."""

    def before(_: int) -> None:
        def fail(_: object) -> None:
            raise OSError(24, "Too many open files")

        multiprocessing.connection.SocketListener.accept = fail

    with pytest.raises(ProcessError, match="ulimit -n"):
        list(loader_of(before))


def test_failure_of_any_other_thread_of_a_worker_ends_it() -> None:
    def fail() -> None:
        raise OSError(28, "No space left on device")

    def before(_: int) -> None:
        threading.Thread(target=fail).start()
        time.sleep(60)

    with pytest.raises(ProcessError, match="No space left on device"):
        list(loader_of(before))


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "memory ran out.*data.cache_megabytes"),
        (signal.SIGBUS, "bus error.*--shm-size"),
        (signal.SIGSEGV, "SIGSEGV.*data.workers=0"),
    ],
)
def test_worker_that_is_killed_is_one_error_with_the_remedy(number: int, words: str) -> None:
    with pytest.raises(ProcessError, match=f"data.workers = 2.*{words}"):
        list(loader_of(lambda _: os.kill(os.getpid(), number), workers=2))


def test_worker_that_exits_is_one_error() -> None:
    with pytest.raises(ProcessError, match="has ended"):
        list(loader_of(lambda _: os._exit(3)))


def test_errors_of_the_dataset_keep_their_type_and_message() -> None:
    def refuse(_: int) -> None:
        raise UserError("image 3: cannot be read.\nRestore it.")

    def wait(_: int) -> None:
        raise ProcessError("image 3: the server gives none.")

    def fail(_: int) -> None:
        raise RuntimeError("a bug")

    with pytest.raises(UserError, match=r"^image 3: cannot be read.\nRestore it.$"):
        list(loader_of(refuse))
    with pytest.raises(ProcessError, match=r"^image 3: the server gives none.$"):
        list(loader_of(wait))
    with pytest.raises(RuntimeError, match="(?s)Caught RuntimeError in DataLoader worker.*a bug") as bug:
        list(loader_of(fail))
    assert not isinstance(bug.value, WorkerBug)


def test_workers_that_cannot_be_started_are_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        if multiprocessing.active_children():
            raise BlockingIOError(11, "Resource temporarily unavailable")
        start(process)

    process = multiprocessing.get_context().Process(target=time.sleep, args=(60,))
    start = multiprocessing.process.BaseProcess.start
    start(process)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    try:
        with pytest.raises(ProcessError, match="ulimit -u"):
            list(loader_of(lambda _: None))
    finally:
        process.kill()
        process.join()


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[signals.StopSignals]:
    """The installed handlers, with a short grace."""
    monkeypatch.setattr(signals, "WAIT_SECONDS", 0.5)
    numbers = (*stop_signals(), signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    stop = signals.StopSignals()
    stop.install()
    yield stop
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("workers", [0, 1])
def test_stop_signal_ends_the_wait_for_a_batch(stop: signals.StopSignals, workers: int) -> None:
    batches = iter(loader_of(lambda index: time.sleep(600 if index == 2 else 0), workers=workers))
    next(batches)
    next(batches)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(WaitInterrupted):
        next(batches)


def test_stop_signal_leaves_a_batch_that_comes_within_the_grace(
    stop: signals.StopSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "WAIT_SECONDS", 600.0)
    batches = iter(loader_of(lambda index: time.sleep(0.5)))
    os.kill(os.getpid(), signal.SIGTERM)
    assert len(list(batches)) == 4 and stop.reason == "stopped by SIGTERM"
