"""The program `two-stage-vit`: the stages, evaluations, studies and the launcher, from any folder.

This package has a name of its own, so that it is found where a folder `common` or a `finetune.py` of the user's own is in the
working directory or on PYTHONPATH. It puts the project's packages first, for this process and for all that it starts.
"""

import os
import runpy
import sys
from pathlib import Path

COMMANDS = {
    "pretrain": ("pretrain", "pre-train a network with DINO"),
    "finetune": ("finetune", "train a network with labels"),
    "evaluate": ("common.evaluation", "evaluate a frozen network"),
    "recipes": ("recipes", "list, plan, run and report studies"),
    "models": ("common.models", "print all networks"),
    "launch": ("common.launch", "start a run of several processes: <options> -m <stage> ..."),
}
"""Modules, as after `python -m`, by command."""


def main() -> None:
    """Run the command that the first argument names, as `python -m` runs its module."""
    command = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if command not in COMMANDS:
        usage = "\n".join([f"usage: {Path(sys.argv[0]).name} <command> ...", *_lines()])
        asked = command in ("-h", "--help")
        print(
            usage if asked else f"error: {command}: no such command\n{usage}", file=sys.stdout if asked else sys.stderr
        )
        sys.exit(0 if asked else 2)
    use_own_packages()
    del sys.argv[1]
    runpy.run_module(COMMANDS[command][0], run_name="__main__", alter_sys=True)


def use_own_packages() -> None:
    """Put the folder of the project's packages first on the import path, and keep the working directory off it."""
    folder = next(
        parent for parent in Path(__file__).resolve().parents if (parent / "common" / "import_path.py").is_file()
    )
    sys.path.insert(0, str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(part for part in (str(folder), os.environ.get("PYTHONPATH")) if part)
    os.environ["PYTHONSAFEPATH"] = "1"


def _lines() -> list[str]:
    """Return a line of help for each command."""
    return [f"  {name:10}{description}" for name, (_, description) in COMMANDS.items()]
