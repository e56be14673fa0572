"""Initialization of the loader's worker processes: a single thread, memory reuse, signal handling.

A signal to the process group (Ctrl-C, a scheduler) also reaches the workers. The run then finishes its step and needs them for
that, so only their parent may terminate them. If the parent dies, they notice within seconds (torch's watchdog).
"""

import os
import signal
import threading
from multiprocessing.connection import Connection

import cv2
import torch

from common.data.loading.worker_failures import end_on_failures
from common.interruption import stop_signals
from common.memory import keep_freed_memory


def start_worker(_: int, *, reports: Connection) -> None:
    """Initialize a worker process; with its parent's `report_writer`, the `worker_init_fn` of `DataLoader`."""
    end_on_failures(reports)
    torch.set_num_threads(1)  # the processes already use all cores
    cv2.setNumThreads(0)
    keep_freed_memory()
    for number in {*stop_signals(), signal.SIGALRM} - {
        signal.SIGTERM
    }:  # until here, the parent's handlers are in place
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_exit_on_sigterm, args=(os.getppid(),), daemon=True).start()


def _exit_on_sigterm(parent: int) -> None:
    """Exit on a SIGTERM from the parent, or from any process once the parent is gone."""
    while True:
        received = signal.sigwaitinfo({signal.SIGTERM})
        if received.si_pid == parent or os.getppid() != parent:
            os._exit(0)
