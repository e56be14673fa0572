"""Exit of a program whose output may be read by another one, such as `head`, that closes the pipe early, or that is interrupted."""

import os
import signal
import sys
from collections.abc import Callable

from common.errors import USER_ERROR
from common.import_errors import explain_import
from common.streams import prepare_streams

_is_abandoned = False
"""Whether something in the background is not waited for (`abandon_background`)."""


def abandon_background() -> None:
    """Let `exit_with` end the process at once: what libraries do at the exit of the interpreter could wait for a server."""
    global _is_abandoned
    _is_abandoned = True


def exit_with(main: Callable[[], int], *, ignore_closed_pipe: bool = False) -> None:
    """Exit with the code that `main` returns; with that of SIGPIPE, and without a traceback, if the reader closes the pipe.

    `ignore_closed_pipe`: continue instead, for a program whose work is not what it prints. SIGINT ends what has no handler of its
    own, such as imports, with that signal's code and without a traceback.
    """
    prepare_streams(ignore_closed_pipe=ignore_closed_pipe)
    try:
        os.getcwd()
    except FileNotFoundError:  # MKL cannot be loaded then, and says something else
        print(
            "error: the working directory was removed. `cd` to another and run the same command again.", file=sys.stderr
        )
        sys.exit(USER_ERROR)
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except Exception as error:
        if (problem := explain_import(error)) is None:
            raise
        print(f"error: {problem}", file=sys.stderr)
        code = USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 128 + signal.SIGINT
    if _is_abandoned:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
