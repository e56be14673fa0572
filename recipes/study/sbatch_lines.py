"""Lines of a batch script that a study may add: what they set must not be what the study sets itself, for that would win."""

import re
import shlex
from collections.abc import Iterator

PREFIX = "#SBATCH"
_BY_KEY = {
    "partition": ("partition", "p"),
    "account": ("account", "A"),
    "time": ("time", "t"),
    "memory": ("mem", "mem-per-cpu", "mem-per-gpu"),
    "nodes": ("nodes", "N"),
    "gpus_per_node": ("gpus-per-node", "gpus-per-task", "gpus-per-socket", "gpus", "G"),
    "processes_per_node": ("ntasks-per-node", "tasks-per-node", "ntasks", "n"),
    "cpus_per_process": ("cpus-per-task", "cpus-per-gpu", "c"),
    "save_seconds": ("signal",),
}
"""The options of sbatch that a key of the section sets, and others that would set the same."""
_KEYS = {option: key for key, options in _BY_KEY.items() for option in options}
_OURS = {
    "job-name", "J", "array", "a", "chdir", "D", "output", "o", "open-mode", "export", "requeue", "no-requeue", "dependency", "d",
    "kill-on-invalid-dep",
}  # fmt: skip
"""Options that a study sets for every job, without a key."""
_NOT_FOLLOWED = {
    **dict.fromkeys(
        ("clusters", "M"),
        "the study would not find its jobs. Remove it, and name the cluster in the environment variable SLURM_CLUSTERS.",
    ),
    **dict.fromkeys(("wait", "W"), "sbatch would not return before the runs have ended. Remove it."),
    "test-only": "sbatch would submit nothing. Remove it; `python -m recipes plan` lists the runs.",
}
"""Options with which a study cannot follow its jobs, and why."""
_LONG = tuple(name for name in (*_KEYS, *_OURS, *_NOT_FOLLOWED) if len(name) > 1)
_THREADS = re.compile(r"\s*(?:export\s+)?((?:OMP|MKL)_NUM_THREADS)=")
_ALMOST = re.compile(r"\s*#\s*SBATCH\b")


def problems_of_line(line: str) -> Iterator[str]:
    """Yield a message, which begins with the line, for what a line sets in vain."""
    if not line.startswith(PREFIX):
        if _ALMOST.match(line):
            yield f"{line!r}: sbatch takes it for a comment. Options begin with {PREFIX}."
        elif found := _THREADS.match(line):
            yield f"{line}: {found[1]} is set by the key cpus_per_process. Set that key instead."
        return
    try:
        words = shlex.split(line.removeprefix(PREFIX), comments=True)
    except ValueError as error:
        yield f"{line}: {error}. Close every quotation mark."
        return
    for word, after in zip(words, [*words[1:], ""], strict=True):
        name = _name(word)
        if name == "gres" and (word.partition("=")[2] or after).startswith("gpu"):
            yield f"{line}: GPUs are set by the key gpus_per_node. Set that key instead."
        option = word.partition("=")[0] if word.startswith("--") else f"-{name}"
        if name in _KEYS:
            yield f"{line}: {option} is set by the key {_KEYS[name]}. Set that key instead."
        elif name in _OURS:
            yield f"{line}: {option} is set by the study for every job. Remove it."
        elif name in _NOT_FOLLOWED:
            yield f"{line}: with {option} {_NOT_FOLLOWED[name]}"


def _name(word: str) -> str:
    """Return the option of sbatch that a word sets, without hyphens; an empty string for a value."""
    if not word.startswith("--"):
        return word[1:2] if word.startswith("-") else ""
    given = word[2:].partition("=")[0]
    if given in _LONG:
        return given
    meant = [name for name in _LONG if given and name.startswith(given)]
    return meant[0] if len(meant) == 1 else given  # sbatch takes a unique beginning of an option, too
