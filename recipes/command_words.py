"""Words of a command line that state what it does: which study, and what its size depends on."""

import argparse
import shlex

from recipes.arguments import parse
from recipes.run.launching import SINGLE_PROCESS


def tune_command(arguments: list[str]) -> str:
    """Return the command that makes the choices again, from the arguments of `run` or `tune`."""
    return shlex.join(["python", "-m", "recipes", "tune", *study_words(parse(arguments))])


def study_words(options: argparse.Namespace) -> list[str]:
    """Return the words of a command line that say which study it is, without its folder and without how it is run."""
    names = ("scale", "seeds", "budget", "public")
    more = (word for name in names if (value := getattr(options, name)) for word in (f"--{name}", value))
    levels = (word for each in options.levels for word in ("--levels", each))
    return [options.study, *options.overrides, *more, *levels]


def words_of_size(options: argparse.Namespace) -> list[str]:
    """Return the words of a command line that a sized study depends on, too: how its runs are started here, and their length."""
    words = []
    if getattr(options, "engine", "local") == "local":
        words += ["--jobs", str(options.jobs)] if getattr(options, "jobs", None) else []
        usual = " ".join(SINGLE_PROCESS)
        arguments = getattr(options, "accelerate_args", usual)
        words += [f"--accelerate-args={arguments}"] if arguments != usual else []
    factor = getattr(options, "epochs_factor", 1.0)
    return words + (["--epochs-factor", f"{factor:g}"] if factor != 1 else [])
