"""An error that ended the import of a library, as one message: a variable that it cannot read, a broken installation, another
module of its name."""

import os
import re
import site
import sys
import sysconfig
from collections.abc import Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from traceback import walk_tb
from types import ModuleType

_ROOT = Path(__file__).resolve().parents[1]
_OWN = {"benchmarks", "common", "finetune", "pretrain", "recipes", "tests"}
"""Folders of this project beneath `_ROOT`, which may hold an environment of Python, or be one."""
_MIN_LENGTH = 3
"""Characters of a variable's name or value from which it is searched for in a message."""
_NO_MEMORY = re.compile("failed to map segment|cannot allocate memory", re.IGNORECASE)
_OTHER_LIBRARIES = re.compile("undefined symbol|not defined in file|version .* not found", re.IGNORECASE)
"""What the loader of shared libraries says of a library that is not the one that another was built with."""


def explain_import(error: Exception, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the message for an error that ended the import of a library, or None if it was raised anywhere else.

    Also for an error about what a module lacks that has the name of an installed library, but is not it.
    """
    if (message := _explain_other_module(_modules_lacking(error), environment)) is not None:
        return message
    frames = [frame for frame, _ in walk_tb(error.__traceback__) if not frame.f_code.co_filename.startswith("<")]
    own = [place for place, frame in enumerate(frames) if _is_own(frame.f_code.co_filename)]
    after = frames[own[-1] + 1 :] if own else []
    if not after or after[0].f_code.co_name != "<module>":
        return None
    text = " ".join(str(error).split())
    imported = {str(frame.f_globals.get("__name__")).partition(".")[0]: frame.f_globals for frame in reversed(after)}
    files = {
        name: str(names.get("__file__")) for name, names in imported.items()
    }  # not in sys.modules if its import has failed
    files |= {name: _file_of(name) for name in (*imported, *re.findall(r"\w+", text)) if name in sys.modules}
    reason = f"{type(error).__name__}: {text[:300]}".rstrip(".")
    if (message := _explain_other_module(files, environment, reason)) is not None:
        return message
    suspects = [
        f"{name} = {value!r}"
        for name, value in environment.items()
        if any(len(word) >= _MIN_LENGTH and _is_word(word, text) for word in (name, value))
    ]
    if _OTHER_LIBRARIES.search(text):
        suspects += [name for name in ("LD_LIBRARY_PATH", "LD_PRELOAD") if environment.get(name)]
    if _NO_MEMORY.search(text):
        remedy = "Raise the limit on memory (`ulimit -v`)"
    else:
        remedy = f"Correct or unset {', '.join(suspects)}" if suspects else "Check its installation and the environment"
    library = str(after[0].f_globals.get("__name__")).partition(".")[0]
    return f"{library} cannot be imported ({reason}). {remedy} and rerun the same command."


def _modules_lacking(error: Exception) -> dict[str, str]:
    """Return the file of the library, by its name, that lacks what an error is about."""
    name: str | None = None
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = error.obj.__name__
    elif isinstance(error, ImportError):
        name = error.name
    library = (name or "").partition(".")[0]
    return {library: _file_of(library)} if library in sys.modules else {}


def _file_of(library: str) -> str:
    """Return the file of an imported module or package."""
    return str(getattr(sys.modules[library], "__file__", None))


def _explain_other_module(files: Mapping[str, str], environment: Mapping[str, str], reason: str = "") -> str | None:
    """Return the message for the first of the modules that is not the library of its name in this environment."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    users = site.getusersitepackages()
    for name, file in files.items():
        installed = PathFinder.find_spec(name, folders)
        if not Path(file).is_absolute() or installed is None or not installed.origin:
            continue
        if any(Path(file).is_relative_to(folder) for folder in folders) or _is_own(file):
            continue
        folder = Path(file).parent.parent if Path(file).stem == "__init__" else Path(file).parent
        if folder == Path(users):
            remedy = "Set PYTHONNOUSERSITE=1"
        elif any(
            part and Path(part).resolve() == folder.resolve() for part in environment.get("PYTHONPATH", "").split(":")
        ):
            remedy = f"Take {folder} off PYTHONPATH"
        else:
            remedy = "Rename it, or change to another folder,"
        because = f" ({reason})" if reason else ""
        return (
            f"`{name}` was imported from {file}{because}, and not from this environment ({installed.origin}). {remedy} and rerun "
            "the same command."
        )
    return None


def _is_word(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _is_own(file: str) -> bool:
    """Return whether a source file belongs to this project."""
    path = Path(file)
    return path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _OWN
