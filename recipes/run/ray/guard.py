"""Process between a Ray worker and a run: `python guard.py <descriptor of the lock> <grace in seconds> <command>`.

Ray kills the children of a worker that it ends, at once. The guard is no child of the worker any more (its parent has exited), so
that the run can save first. It obeys the lines of its standard input, numbers of signals for the run. At the end of its input the
worker is gone: the run gets SIGTERM and, after the grace, SIGKILL. It prints the run's exit code (that of a signal negative), and
holds the lock of the run's folder meanwhile. It imports the standard library alone, to start quickly.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path


def main(lock: int, grace_seconds: float, command: list[str]) -> None:
    """Run the command, with its output where this process's errors go, until it has ended."""
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # at the shutdown of a node, the run ends by its own handler
    error = sys.stderr.fileno()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=error, stderr=error, start_new_session=True, pass_fds=(lock,)
    )
    threading.Thread(target=_obey, args=(process, grace_seconds), daemon=True).start()
    code = process.wait()
    if code < 0:
        _kill(_group(process.pid))  # the launcher was killed, and its processes may be left
    with suppress(BrokenPipeError):
        print(code, flush=True)
    os._exit(0)


def _obey(process: "subprocess.Popen[bytes]", grace_seconds: float) -> None:
    """Send the signals that are asked for; at the end of the input stop the run."""
    for line in sys.stdin:
        _send(process, int(line))
    _send(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(grace_seconds)
        return
    _send(process, signal.SIGKILL)


def _send(process: "subprocess.Popen[bytes]", number: int) -> None:
    """Send a signal to the launcher, which passes it on, or kill the launcher and all of its processes."""
    if number == signal.SIGKILL:
        _kill([*descendants(process.pid), process.pid])
    else:
        process.send_signal(number)


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and that those have: a launcher's workers lead groups of their own."""
    found: list[int] = []
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def _group(leader: int) -> list[int]:
    """Return the processes of a process group; the launcher has ended, so they are found by their group alone."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.getpgid(int(entry.name)) == leader:
                found.append(int(entry.name))
    return found


def _kill(pids: list[int]) -> None:
    """Kill processes."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
