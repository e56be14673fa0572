"""Forkserver for runs: one process imports torch and the stages once, and every run is a fork of it.

Without it, a run of a few seconds would spend most of its time on imports. The server process is started by `accelerate launch`. A
fork has its own log, environment, process group and exit code, as if it had been launched alone. Runs with several processes or
with custom arguments of `accelerate launch` are not forked (`LocalSlots`).

Client and server communicate over a Unix socket. To start a run, the client sends a JSON line and two file descriptors (log, lock);
the server answers with the process id, and sends another line when the run ends.
"""

# Why not multiprocessing's forkserver (Python 3.11, in turn, medians of 8): with the environment of `accelerate launch` its
# first run starts after 5.7 s (here 5.1 s), later ones after 28 ms (19 ms). It also needs a workaround for each of these: a SIGTERM
# to the study's process group kills the server, and live runs then report exit code 255; killpg right after a start missed 30 of
# 30 runs, which are not group leaders yet; a failing preload import is ignored; data loaders inherit the start method; a study that
# ends waits for its runs; lock and log need pickled descriptors. It is one global server, with one preload list per process.

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

from common.errors import UserError

START_TIMEOUT_SECONDS = 180.0
"""Maximum time for the imports of the server process."""
SERVER_FAILED = "the forkserver of the runs did not start, or exited; its output is above. `--no-prefork` avoids it."


_MAX_FOLDER_BYTES = 80
"""Longest folder of temporary files in which the socket's path still has at most 107 bytes (103 on macOS)."""


def _socket_parent() -> str:
    """Return the folder of temporary files, or /tmp if its path is too long for a socket."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) <= _MAX_FOLDER_BYTES else "/tmp"


@dataclass
class ForkedProcess:
    """A run in a fork of the server process; the engine uses it like a `subprocess.Popen`."""

    server: "Forkserver"
    pid: int

    def poll(self) -> int | None:
        """Return the run's exit code, or None if it is still running."""
        return self.server.exit_code(self.pid)


@dataclass
class Forkserver:
    """Client of the server process, which it starts on first use."""

    command: Sequence[str]
    """Command of the server process; the path of the socket is appended."""
    environment: Mapping[str, str]
    """Environment variables of the server process, in addition to the study's; among them the number of threads, which is fixed
    when torch is imported."""
    _socket: socket.socket | None = None
    _process: "subprocess.Popen[bytes] | None" = None
    _buffer: bytes = b""
    _exit_codes: dict[int, int] = field(default_factory=dict)

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: int, lock: int
    ) -> ForkedProcess:
        """Run `python -m module arguments` in a fork, with its output to `log`; it inherits `lock`."""
        connection = self._connect()
        message = {"module": module, "arguments": list(arguments), "environment": dict(environment)}
        socket.send_fds(connection, [json.dumps(message).encode() + b"\n"], [log, lock])
        answer = self._read(block=True)
        while answer is None or "started" not in answer:
            answer = self._read(block=True)
        return ForkedProcess(self, int(answer["started"]))

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code of a run, or None if it is still running."""
        while self._read(block=False) is not None:
            continue
        if pid not in self._exit_codes and self._process is not None and self._process.poll() is not None:
            return self._process.returncode or 1  # the server process exited, and the run's exit code is lost
        return self._exit_codes.get(pid)

    def _connect(self) -> socket.socket:
        """Return the connection; start the server process if there is none, or if it exited."""
        if self._socket is None or self._process is None or self._process.poll() is not None:
            self._buffer = b""
            with tempfile.TemporaryDirectory(dir=_socket_parent()) as folder, socket.socket(socket.AF_UNIX) as listener:
                path = f"{folder}/socket"
                listener.bind(path)
                listener.listen(1)
                listener.settimeout(1.0)
                self._process = subprocess.Popen(
                    [*self.command, path],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **self.environment},
                    start_new_session=True,
                )
                self._socket = self._accept(listener, self._process)
        return self._socket

    def _accept(self, listener: socket.socket, process: "subprocess.Popen[bytes]") -> socket.socket:
        """Return the connection that the server process opens after its imports."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                return listener.accept()[0]
            except TimeoutError:
                continue
        raise UserError(SERVER_FAILED)

    def _read(self, *, block: bool) -> dict[str, Any] | None:
        """Return the server's next message, or None if there is none; store the exit code if it contains one."""
        assert self._socket is not None
        while b"\n" not in self._buffer:
            try:
                data = self._socket.recv(4096, 0 if block else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            if not data:
                if block:
                    raise UserError(SERVER_FAILED)
                return None
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        if "ended" in message:
            self._exit_codes[int(message["ended"])] = int(message["code"])
        return message


def serve(connection: socket.socket) -> None:
    """Fork a run for every message, and report its exit code when it ends, until the client closes the connection."""
    wakeup_reader, wakeup_writer = os.pipe()
    os.set_blocking(wakeup_writer, False)
    signal.set_wakeup_fd(wakeup_writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    selector = selectors.DefaultSelector()
    for source in (connection, wakeup_reader):
        selector.register(source, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fd == wakeup_reader:
                os.read(wakeup_reader, 4096)
                _report_exit_codes(connection)
            elif not _start_run(connection):
                return


def _start_run(connection: socket.socket) -> bool:
    """Read a message, fork, and answer with the process id; return False if the client closed the connection."""
    data, ancillary, *_ = connection.recvmsg(1 << 20, socket.CMSG_SPACE(2 * array.array("i").itemsize))
    if not data:
        return False
    descriptors = array.array("i")
    for _, _, content in ancillary:
        descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    log, lock = descriptors
    message = json.loads(data)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _execute(message["module"], message["arguments"], message["environment"], log, lock)
    with suppress(ProcessLookupError, PermissionError):
        os.setpgid(pid, pid)  # also set by the fork: the client may signal the group as soon as it knows the id
    os.close(log)
    os.close(lock)
    connection.sendall(json.dumps({"started": pid}).encode() + b"\n")
    return True


def _report_exit_codes(connection: socket.socket) -> None:
    """Reap every run that ended and send its exit code; that of a signal is negative, as in `subprocess`."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        connection.sendall(json.dumps({"ended": pid, "code": os.waitstatus_to_exitcode(status)}).encode() + b"\n")


def _execute(module: str, arguments: list[str], environment: dict[str, str], log: int, lock: int) -> None:
    """Execute the run in this fork; never return."""
    code = 1
    try:
        os.setpgid(0, 0)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.set_inheritable(lock, True)
        os.environ.update(environment)
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
    """Import the modules, then serve: `accelerate launch -m recipes.run.forkserver <module> ... <socket>`."""
    *modules, path = arguments
    for name in modules:
        importlib.import_module(name)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    serve(connection)


if __name__ == "__main__":
    main(sys.argv[1:])
