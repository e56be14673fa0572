"""This process among those of its launch, by the variables that launchers set; what another tool left of them is refused."""

from collections.abc import Mapping, MutableMapping

from common.errors import UserError

RANKS = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
ADDRESS = ("MASTER_ADDR", "MASTER_PORT")

_TASKS = {"SLURM_STEP_NUM_TASKS": "srun", "OMPI_COMM_WORLD_SIZE": "mpirun", "PMI_SIZE": "mpirun"}
"""Variables with the number of processes that a launcher of any program has started, and its name."""
_REMEDY = (
    "A launcher sets {names} together (docs/several_machines.md). For one process alone run `unset {present}` and the same "
    "command again."
)


def read_rank(environment: MutableMapping[str, str]) -> int:
    """Return the rank of this process, 0 if it is alone.

    A process is one of several only if all variables of `RANKS` and `ADDRESS` are set. Those that are consistent with one process
    alone are removed from `environment` where the set is not complete: accelerate would form a process group from LOCAL_RANK alone.
    Raise UserError for what is neither: a word instead of a number, a rank without the others or beyond the number of processes.
    """
    numbers = {name: _number(name, environment) for name in RANKS}
    rank, local_rank, processes = (numbers[name] for name in RANKS)
    missing = [name for name in (*RANKS, *ADDRESS) if numbers.get(name, environment.get(name)) in (None, "")]
    if rank is not None and rank >= (processes or 1):
        raise UserError(
            _message(environment, f"a rank counts from 0 and must be less than WORLD_SIZE = {processes or 1}")
        )
    if (processes or 1) == 1 and missing:
        for name in RANKS:
            environment.pop(name, None)
        return 0
    if missing:
        raise UserError(_message(environment, f"without {', '.join(missing)}"))
    _number("MASTER_PORT", environment)
    return rank or 0


def leave_launch(environment: MutableMapping[str, str]) -> None:
    """Remove what a launch of this process set: a study starts the processes of its runs itself.

    Raise UserError if this is one of several processes, which would each run the study.
    """
    read_rank(environment)
    if int(environment.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            _message(
                environment,
                "a study is one process, which starts the processes of its runs itself; --accelerate-args gives each run several",
            )
        )
    for name in RANKS:
        environment.pop(name, None)


def copies_of_launch(environment: Mapping[str, str]) -> str:
    """Return a sentence for a process that srun or mpirun has started several times without a group; otherwise an empty string."""
    if environment.get("WORLD_SIZE", "1") != "1":
        return ""
    for name, program in _TASKS.items():
        if (number := environment.get(name, "")).isdecimal() and int(number) > 1:
            return (
                f" {program} has started this process {number} times ({name}), and without {', '.join(RANKS)} each trains a copy:"
                " set them as docs/several_machines.md shows, or start one process with `python -m common.launch`."
            )
    return ""


def _number(name: str, environment: Mapping[str, str]) -> int | None:
    """Return the value of a variable as a number from 0, None if it is not set; -1 counts as not set, as in accelerate."""
    text = environment.get(name, "").strip()
    if text in ("", "-1"):
        return None
    if not (text.isascii() and text.isdigit()) or (name == "WORLD_SIZE" and int(text) == 0):
        raise UserError(_message(environment, f"{name} is not a number of the kind that a launcher sets"))
    return int(text)


def _message(environment: Mapping[str, str], problem: str) -> str:
    """Return a message about the variables that are set, with the remedy."""
    present = [name for name in RANKS if name in environment]
    shown = ", ".join(f"{name} = {environment[name]!r}" for name in (*RANKS, *ADDRESS) if name in environment)
    remedy = _REMEDY.format(names=", ".join((*RANKS, *ADDRESS)), present=" ".join(present or ADDRESS))
    return f"{shown}: {problem}. {remedy}"
