"""An error that ended the import of a library, as one message: a variable that it cannot read, a broken installation."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from traceback import walk_tb

_ROOT = Path(__file__).resolve().parents[1]
_OWN = {"benchmarks", "common", "finetune", "pretrain", "recipes", "tests"}
"""Folders of this project beneath `_ROOT`, which may hold an environment of Python, or be one."""
_MIN_LENGTH = 3
"""Characters of a variable's name or value from which it is searched for in a message."""
_NO_MEMORY = re.compile("failed to map segment|cannot allocate memory", re.IGNORECASE)


def explain_import(error: Exception, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the message for an error that ended the import of a library, or None if it was raised anywhere else."""
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if not frame.f_code.co_filename.startswith("<")]
    own = [place for place, frame in enumerate(frames) if _is_own(frame.f_code.co_filename)]
    after = frames[own[-1] + 1 :] if own else []
    if not after or after[0].f_code.co_name != "<module>":
        return None
    text = " ".join(str(error).split())
    suspects = [
        f"{name} = {value!r}"
        for name, value in environment.items()
        if any(len(word) >= _MIN_LENGTH and _is_word(word, text) for word in (name, value))
    ]
    if _NO_MEMORY.search(text):
        remedy = "Raise the limit on memory (`ulimit -v`)"
    else:
        remedy = f"Correct or unset {', '.join(suspects)}" if suspects else "Check its installation and the environment"
    library = str(after[0].f_globals.get("__name__")).partition(".")[0]
    reason = f"{type(error).__name__}: {text[:300]}".rstrip(".")
    return f"{library} cannot be imported ({reason}). {remedy} and rerun the same command."


def _is_word(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _is_own(file: str) -> bool:
    """Return whether a source file belongs to this project."""
    path = Path(file)
    return path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _OWN
