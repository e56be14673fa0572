"""Command line of a stage: `accelerate launch -m <stage> recipe.yaml key=value ... [--help] [--dry-run]`."""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from common.config import load, to_yaml
from common.config_help import describe
from common.errors import (
    USER_ERROR,
    ProcessError,
    SharedError,
    UserError,
    is_disk_error,
    os_error_of,
    system_error_message,
)
from common.locks import release_locks
from common.memory import is_out_of_memory
from common.process_errors import print_error
from common.ranks import read_rank
from common.surroundings import explained, leave_at_once

INTERRUPTED_TWICE = 130
"""Exit code after a second SIGINT: the process exits immediately, without saving."""

_MEMORY_REMEDY = (
    "Reduce train.batch_size, data.image_size, model.name, dino.out_dim or data.cache_megabytes, or use more processes."
)
_TRAINING_MEMORY_REMEDY = (
    "train.micro_batch_size sends parts of a batch through the network, train.grad_checkpointing=true recomputes activations: both"
    " change a step only by rounding."
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

    `run(config, overrides)` trains; `dry_run(config)` returns the text that `--dry-run` prints after the resolved recipe.
    """
    parser = _parser(cls, stage)
    options = parser.parse_intermixed_args(arguments)
    try:
        rank = read_rank(os.environ)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    is_main = rank == 0
    logging.basicConfig(
        level=logging.INFO if is_main else logging.ERROR, format="%(message)s", stream=sys.stdout, force=True
    )
    alone = False  # whether this process may be the only one with the error, and the others in a collective
    try:
        config = _load(cls, options.recipe, options.overrides)
        if options.dry_run:
            if is_main:
                print(to_yaml(config) + dry_run(config))
            return 0
        with explained():
            code = run(config, options.overrides)
    except KeyboardInterrupt:
        print("interrupted without saving; rerun the same command to resume from the last checkpoint", file=sys.stderr)
        return INTERRUPTED_TWICE
    except UserError as error:
        alone = not isinstance(error, SharedError)
        print_error(str(error), rank, is_shared=not alone, is_own=isinstance(error, ProcessError))
        code = error.exit_code if isinstance(error, ProcessError) else USER_ERROR
    except OSError as error:
        alone = True
        print_error(system_error_message(error), rank)
        code = USER_ERROR
    except (MemoryError, RuntimeError) as error:
        if (cause := os_error_of(error, is_disk_error)) is not None:  # a cache of torch.compile
            message = system_error_message(cause)
        elif is_out_of_memory(error):
            message = f"not enough memory for this recipe ({_first_line(error)}). {_memory_remedy(stage)}"
        else:
            raise
        alone, code = True, USER_ERROR
        print_error(message, rank)
    finally:
        release_locks()
    if alone:
        leave_at_once(code)
    _leave_process_group()
    return code


def _memory_remedy(stage: str) -> str:
    """Return what a run that lacks memory can do; a stage that trains a network first without another result."""
    return f"{_TRAINING_MEMORY_REMEDY} {_MEMORY_REMEDY}" if stage in ("pretrain", "finetune") else _MEMORY_REMEDY


def _load(cls: type[Any], recipe: str, overrides: list[str]) -> Any:
    """Return a recipe with what it takes from its weights; only then timm is imported."""
    config = load(cls, recipe, overrides)
    if getattr(config, "init", None) is None and not hasattr(config, "model"):
        return config
    from common.models.init_network import follow_init

    return follow_init(config)


def _leave_process_group() -> None:
    """Destroy the process group, if there is one; no collective is pending after a run or after an error of all processes.

    Without it, threads of gloo that are still alive when the interpreter exits can abort the process (exit code -6), although
    the run has ended and its result is written. torch is not imported for it: without torch there is no process group.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _parser(cls: type[Any], stage: str) -> argparse.ArgumentParser:
    """Return the argument parser of a stage; its help lists every recipe key."""
    name = stage.split()[-1]
    example = f"recipes/{'imagenet1k' if name == 'complexity' else 'digits'}/{name}.yaml"
    parser = argparse.ArgumentParser(
        prog=f"accelerate launch -m {stage}",
        description=f"Run the stage `{stage}` from a recipe. Rerunning the same command finishes a stopped run, from its last"
        " checkpoint if the stage writes any.",
        epilog=f"recipe keys:\n{describe(cls)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", help=f"recipe (a YAML file), for example {example}")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="overrides of recipe keys")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the resolved recipe, model size, steps, images and compute, then exit",
    )
    return parser
