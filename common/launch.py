"""Start the processes of a run as `accelerate launch` does, and exit with their code: `python -m common.launch`.

The arguments are those of `accelerate launch`: <options> -m <stage> <recipe.yaml> key=value ... That command itself exits with 1
whenever one of its processes did not exit with 0, and some signals end it before them.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from common.errors import USER_ERROR, UserError
from common.interruption import stop_signals
from common.pipes import exit_with
from common.surroundings import INTERRUPTED
from common.training.launch_environment import check_environment, check_launch, launch_setting
from common.training.signals import end_before_run


def main(arguments: Sequence[str]) -> int:
    """Launch the processes and wait for them; return the exit code of the one that failed first, 128 + signal if it was killed."""
    try:
        check_environment(os.environ)
        check_launch(_own_options(arguments), os.environ)
        from accelerate.commands.launch import launch_command_parser

        parser = launch_command_parser()
        parser.prog = "python -m common.launch"
        options = parser.parse_args(arguments)
        _choose_port(options, _own_options(arguments))
        return _launch(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR


def _choose_port(options: Namespace, arguments: Sequence[str]) -> None:
    """Let a launch on one machine find a free port, where none is set: by default all launches would meet at port 29500."""
    machines = launch_setting("num_machines", arguments, os.environ) or "1"
    if machines == "1" and launch_setting("main_process_port", arguments, os.environ) is None:
        options.main_process_port = 0  # accelerate's name for a free one


def _launch(options: Namespace) -> int:
    """Run `accelerate launch` in a thread: this one is free for signals, and torch's agent then leaves them alone."""
    from accelerate.commands.launch import launch_command

    outcome: list[BaseException] = []

    def launch() -> None:
        try:
            launch_command(options)
        except BaseException as error:
            outcome.append(error)

    # the agent warns that it leaves signals alone, which is intended
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").addFilter(
        lambda record: "signal handlers since torchelastic is running on a child thread" not in record.getMessage()
    )
    thread = threading.Thread(target=launch, daemon=True)
    with _forwarded_signals():
        thread.start()
        while thread.is_alive():
            thread.join(0.2)
    return _exit_code(outcome[0]) if outcome else 0


def _exit_code(error: BaseException) -> int:
    """Return the exit code for what ended the launch; print what the processes of the run have not printed themselves."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    if isinstance(error, subprocess.CalledProcessError):
        return _code_of_process(0, error.returncode)
    if isinstance(error, ChildFailedError):
        failures = {rank: (failure.exitcode, failure.timestamp) for rank, failure in error.failures.items()}
        rank = first_failure(failures)
        return _code_of_process(rank, failures[rank][0])
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, AssertionError | ImportError | OSError | RuntimeError | ValueError):
        print(f"error: accelerate cannot launch this: {error}", file=sys.stderr)
        return USER_ERROR
    traceback.print_exception(error)
    return 1


def first_failure(failures: Mapping[int, tuple[int, int]]) -> int:
    """Return the rank that failed first, from (exit code, second) by rank.

    SIGTERM counts last: torch's agent sends it to the others. Within a second, a process that was killed counts first, and exit
    code 1 after the rest: a process whose peer has ended fails in its next collective, with a message or a traceback.
    """

    def order(rank: int) -> tuple[bool, int, bool, bool, int]:
        code, second = failures[rank]
        return code == -signal.SIGTERM, second, code >= 0, code == 1, rank

    return min(failures, key=order)


def _code_of_process(rank: int, code: int) -> int:
    """Return a process's exit code as a shell does: 128 + signal for one that a signal killed, which is reported."""
    if code >= 0:
        return code
    print(f"error: process {rank} of the run was killed by {signal.Signals(-code).name}", file=sys.stderr)
    return 128 - code


@contextmanager
def _forwarded_signals() -> Iterator[None]:
    """Pass the signals that stop a run on to its processes within a `with` block, unless they are ignored."""
    numbers = [number for number in stop_signals() if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, _forward) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _forward(number: int, _: FrameType | None) -> None:
    """Send a signal to all processes of the run; exit if none has started.

    A Ctrl-C reaches processes of this process group from the terminal, too. As a second SIGINT they would end without saving, so
    SIGTERM stands for it.
    """
    import psutil

    children = psutil.Process().children()
    if not children:
        os._exit(128 + number if number == signal.SIGINT else INTERRUPTED)
    for child in children:
        try:
            in_group = os.getpgid(child.pid) == os.getpgrp()
            os.kill(child.pid, signal.SIGTERM if number == signal.SIGINT and in_group else number)
        except ProcessLookupError:
            continue


def _own_options(arguments: Sequence[str]) -> Sequence[str]:
    """Return the arguments up to the module of the run."""
    ends = [place for place, word in enumerate(arguments) if word in ("-m", "--module")]
    return arguments[: ends[0]] if ends else arguments


if __name__ == "__main__":
    end_before_run()
    exit_with(lambda: main(sys.argv[1:]), ignore_closed_pipe=True)
