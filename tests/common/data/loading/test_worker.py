"""Worker processes of the loader: which signals terminate them."""

import multiprocessing
import os
import signal
import subprocess
import time
from multiprocessing.connection import Connection

from common.data.loading.worker import start_worker
from common.data.loading.worker_failures import report_writer


def work(connection: Connection) -> None:
    start_worker(0, reports=report_writer())
    connection.send("ready")
    time.sleep(60)


def test_only_the_parent_terminates_a_worker() -> None:
    """Ctrl-C and a scheduler's signals reach the process group; the run needs its workers to finish the step."""
    receiver, sender = multiprocessing.get_context("fork").Pipe()
    worker = multiprocessing.get_context("fork").Process(target=work, args=(sender,))
    worker.start()
    try:
        assert receiver.recv() == "ready" and worker.pid is not None
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGXCPU, signal.SIGALRM):
            os.kill(worker.pid, number)
        subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
        worker.join(0.3)
        assert worker.is_alive()
        os.kill(worker.pid, signal.SIGTERM)
        worker.join(10)
        assert worker.exitcode == 0
    finally:
        worker.kill()
