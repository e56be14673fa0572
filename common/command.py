"""Owns the command line of a stage: `accelerate launch -m <stage> recipe.yaml key=value ... [--help] [--dry-run]`."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from common import config as recipes
from common.errors import UserError, of_the_system
from common.locks import release_locks

USER_ERROR = 2
"""Exit code of a user's mistake, told in one message."""
INTERRUPTED_AT_ONCE = 130
"""Exit code after a second SIGINT: nothing more was saved."""

_OUT_OF_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "Storage size calculation overflowed",
    "Invalid buffer size",
)
_SMALLER = (
    "Make train.batch_size, data.image_size, model.name, dino.outputs or data.cache_megabytes smaller, or use more"
    " processes."
)


def run_stage(
    cls: type[Any],
    run: Callable[[Any, list[str]], int],
    dry_run: Callable[[Any], str],
    *,
    stage: str,
    arguments: list[str],
) -> int:
    """Parse a stage's command line, load its recipe as a `cls` and run it; return the process's exit code.

    `run(config, overrides)` trains; `dry_run(config)` returns the text that says what would happen.
    """
    parser = _parser(cls, stage)
    options = parser.parse_intermixed_args(arguments)
    is_main = int(os.environ.get("RANK", "0")) == 0
    logging.basicConfig(
        level=logging.INFO if is_main else logging.ERROR, format="%(message)s", stream=sys.stdout, force=True
    )
    try:
        config = recipes.load(cls, options.recipe, options.overrides)
        if options.dry_run:
            if is_main:
                print(recipes.to_yaml(config) + dry_run(config))
            return 0
        return run(config, options.overrides)
    except KeyboardInterrupt:
        print("stopped at once; the same command goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED_AT_ONCE
    except UserError as error:
        if is_main:
            print(f"error: {_own_words(error)}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        print(of_the_system(error), file=sys.stderr)
        return USER_ERROR
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        print(f"error: there is not enough memory for this recipe ({_first_line(error)}). {_SMALLER}", file=sys.stderr)
        return USER_ERROR
    finally:
        release_locks()


def _is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that host or device memory ran out; torch says so in words on the host."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its name where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _own_words(error: UserError) -> str:
    """Return an error's message without the traceback that a data loader's worker process puts before it."""
    return str(error).rpartition(f"{UserError.__module__}.{UserError.__name__}: ")[2].strip()


def _parser(cls: type[Any], stage: str) -> argparse.ArgumentParser:
    """Return the parser of a stage; its help ends with every key of the recipe."""
    parser = argparse.ArgumentParser(
        prog=f"accelerate launch -m {stage}",
        description=f"Run the stage `{stage}` as a recipe says. The same command again goes on where a run stopped.",
        epilog=f"keys of a recipe:\n{recipes.describe(cls)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help="YAML file of the recipe, such as recipes/digits/pretrain.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys that override the recipe's")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the resolved recipe, the network's size, steps and images; stop"
    )
    return parser
