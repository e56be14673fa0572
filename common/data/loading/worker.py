"""Initialization of the loader's worker processes: a single thread, memory reuse, signal handling.

A signal to the process group (Ctrl-C, a scheduler) also reaches the workers. The run then finishes its step and needs them for
that, so only their parent may terminate them. If the parent dies, they notice within seconds (torch's watchdog).
"""

import os
import signal
import threading

import cv2
import torch

from common.memory import keep_freed_memory


def start_worker(_: int) -> None:
    """Initialize a worker process; the `worker_init_fn` of `DataLoader`."""
    torch.set_num_threads(1)  # the processes already use all cores
    cv2.setNumThreads(0)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_exit_on_sigterm, args=(os.getppid(),), daemon=True).start()


def _exit_on_sigterm(parent: int) -> None:
    """Exit on a SIGTERM from the parent, or from any process once the parent is gone."""
    while True:
        received = signal.sigwaitinfo({signal.SIGTERM})
        if received.si_pid == parent or os.getppid() != parent:
            os._exit(0)
