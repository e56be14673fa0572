"""Owns warm starts: one process imports torch and the stages once, and every run is a fork of it.

A run of a few seconds would otherwise spend most of them on imports. The warm process is itself started by
`accelerate launch`; a fork of it is a process of its own, with its own log, environment, process group and exit code, as if it had
been launched alone. Several processes a run, or arguments of your own to the launcher, start cold (`LocalSlots`).

The study talks to the warm process over a Unix socket: a JSON line and two descriptors (log, lock) start a run and are
answered by its process number; its end comes back as another line.
"""

import array
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

START_TIMEOUT_SECONDS = 180.0
"""How long the warm process may take to import everything."""
GONE = "the process that runs are forked from did not start, or ended; its words are above. `--cold` does without it."


@dataclass
class WarmProcess:
    """A run in a fork of the warm process; it looks like a `subprocess.Popen` to the engine."""

    server: "WarmServer"
    pid: int

    def poll(self) -> int | None:
        """Return the run's exit code, or None while it runs."""
        return self.server.exit_code(self.pid)


@dataclass
class WarmServer:
    """The study's end of the line to the warm process."""

    command: Sequence[str]
    """Starts the warm process; the path of the socket is added to it."""
    variables: Mapping[str, str]
    """Environment of the warm process beyond the study's own: the threads of a run are settled when torch is imported."""
    _socket: socket.socket | None = None
    _process: "subprocess.Popen[bytes] | None" = None
    _buffer: bytes = b""
    _codes: dict[int, int] = field(default_factory=dict)

    def start(
        self, module: str, arguments: Sequence[str], variables: Mapping[str, str], log: int, lock: int
    ) -> WarmProcess:
        """Start `python -m module arguments` in a fork, with its output to `log`; it holds `lock` as long as it lives."""
        line = self._connect()
        message = {"module": module, "arguments": list(arguments), "variables": dict(variables)}
        socket.send_fds(line, [json.dumps(message).encode() + b"\n"], [log, lock])
        answer = self._read(block=True)
        while answer is None or "started" not in answer:
            answer = self._read(block=True)
        return WarmProcess(self, int(answer["started"]))

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code of a run, or None while it runs."""
        while self._read(block=False) is not None:
            continue
        if pid not in self._codes and self._process is not None and self._process.poll() is not None:
            return self._process.returncode or 1  # the warm process itself is gone, and its word with it
        return self._codes.get(pid)

    def _connect(self) -> socket.socket:
        """Return the socket; start the warm process where there is none, or where it died."""
        if self._socket is None or self._process is None or self._process.poll() is not None:
            self._buffer = b""
            with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as door:
                path = f"{folder}/line"
                door.bind(path)
                door.listen(1)
                door.settimeout(1.0)
                self._process = subprocess.Popen(
                    [*self.command, path],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **self.variables},
                    start_new_session=True,
                )
                self._socket = self._answer(door, self._process)
        return self._socket

    def _answer(self, door: socket.socket, process: "subprocess.Popen[bytes]") -> socket.socket:
        """Return the line that the warm process opens once it has imported everything."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                return door.accept()[0]
            except TimeoutError:
                continue
        raise RuntimeError(GONE)

    def _read(self, *, block: bool) -> dict[str, Any] | None:
        """Return the next line of the warm process; note the ends of runs on the way."""
        assert self._socket is not None
        while b"\n" not in self._buffer:
            try:
                part = self._socket.recv(4096, 0 if block else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            if not part:
                if block:
                    raise RuntimeError(GONE)
                return None
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        if "ended" in message:
            self._codes[int(message["ended"])] = int(message["code"])
        return message


def serve(line: socket.socket) -> None:
    """Fork a run for every line that comes, and tell when it ends, until the study closes the line."""
    wake_reader, wake_writer = os.pipe()
    os.set_blocking(wake_writer, False)
    signal.set_wakeup_fd(wake_writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    for source in (line, wake_reader):
        selector.register(source, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is wake_reader or key.fd == wake_reader:
                os.read(wake_reader, 4096)
                _tell_ends(line)
            elif not _start_run(line):
                return


def _start_run(line: socket.socket) -> bool:
    """Read one line, fork, and answer with the process number; return False when the study closed the line."""
    data, ancillary, *_ = line.recvmsg(1 << 20, socket.CMSG_SPACE(2 * array.array("i").itemsize))
    if not data:
        return False
    descriptors = array.array("i")
    for _, _, content in ancillary:
        descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    log, lock = descriptors
    message = json.loads(data)
    pid = os.fork()
    if pid == 0:
        line.close()
        _become(message["module"], message["arguments"], message["variables"], log, lock)
    with suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)  # here and in the fork: the study may signal the group as soon as it knows the number
    os.close(log)
    os.close(lock)
    line.sendall(json.dumps({"started": pid}).encode() + b"\n")
    return True


def _tell_ends(line: socket.socket) -> None:
    """Reap every run that ended and tell the study its exit code; a signal counts as its negative, as in subprocess."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        line.sendall(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


def _become(module: str, arguments: list[str], variables: dict[str, str], log: int, lock: int) -> None:
    """Turn this fork into the run; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.set_inheritable(lock, True)
        os.environ.update(variables)
        sys.argv = [module, *arguments]
        sys.orig_argv = ["accelerate", "launch", "-m", module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main(arguments: list[str]) -> None:
    """Import what runs need, then serve: `accelerate launch -m recipes.run.forkserver <module> ... <socket>`."""
    *modules, path = arguments
    for name in modules:
        importlib.import_module(name)
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)
    serve(line)


if __name__ == "__main__":
    main(sys.argv[1:])
