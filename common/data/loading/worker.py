"""Owns what a loader's worker process is told at its start: one thread, to keep its memory, and which signals are none of
its business.

A signal to a whole group (Ctrl-C, a scheduler) reaches the workers, too. The run wants to finish its step then, and needs
them for it: only their own parent ends them. When that dies, they see it themselves within seconds (torch's watchdog).
"""

import os
import signal
import threading

import cv2
import torch

from common.memory import keep_freed_memory


def start_worker(_: int) -> None:
    """Prepare a worker process; `DataLoader` calls it in each."""
    torch.set_num_threads(1)  # the processes already fill the cores
    cv2.setNumThreads(0)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_at_parents_word, args=(os.getppid(),), daemon=True).start()


def _end_at_parents_word(parent: int) -> None:
    """Wait for a SIGTERM of the parent, or of anyone once the parent is gone, and end the process."""
    while True:
        received = signal.sigwaitinfo({signal.SIGTERM})
        if received.si_pid == parent or os.getppid() != parent:
            os._exit(0)
