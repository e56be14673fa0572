"""Decisions that all processes of a run make together: a stop, a checkpoint, an error of one that reads or writes files."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as distributed
from safetensors import SafetensorError

from common.errors import SharedError, UserError, system_error_message, unwritable_message
from common.process_errors import place

if TYPE_CHECKING:
    from accelerate import Accelerator

Found = TypeVar("Found")
Words = Sequence[str | None]
"""What a process sees, from what matters most to details."""
RUN_FOLDERS, SHARED_DISK = "run folders", "out must lie on a disk that all nodes share"


def _system_message(error: Exception) -> str:
    """Return the message for an error of the system."""
    return system_error_message(error) if isinstance(error, OSError) else str(error)


class ProcessGroup:
    """Reduce flags and errors over the processes of a run.

    Uses gloo on the CPU, apart from the gradients: a flag that is reduced at every step must not make the host wait for the
    device.
    """

    def __init__(self, accelerator: "Accelerator") -> None:
        self.is_main: bool = accelerator.is_main_process
        self._is_distributed, self._rank = accelerator.num_processes > 1, accelerator.process_index
        self._group: Any = None  # the default group, where that is gloo
        if self._is_distributed and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo")

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is set in any process. Every process must call it."""
        if not self._is_distributed:
            return flags
        reduced = torch.tensor(flags, dtype=torch.int32)
        distributed.all_reduce(reduced, op=distributed.ReduceOp.MAX, group=self._group)
        return tuple(bool(flag) for flag in reduced.tolist())

    def gather(self, value: Found) -> list[Found]:
        """Return the value of every process, in the order of their ranks. Every process must call it."""
        if not self._is_distributed:
            return [value]
        values: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(values, value, group=self._group)
        return values

    def read(self, action: Callable[[], Found], describe: Callable[[Found], Words] | None = None) -> Found:
        """Return what `action` reads in this process. If it fails in any process, all raise a SharedError, so that none waits.

        `describe` puts what was read into words, which all processes compare (`check_same`).
        """
        problem: Exception | None = None
        found: Found
        try:
            found = action()
        except (UserError, OSError) as error:
            problem = error
        self._raise_if_any(problem)
        if describe is not None:
            self.check_same(describe(found))
        return found

    def check_same(self, words: Words, *, what: str = RUN_FOLDERS, remedy: str = SHARED_DISK) -> None:
        """Raise a SharedError in all processes if one describes what it sees in other `words` than another.

        The error shows the first of the words that differ. A process that has none to compare gives None.
        """
        for seen in zip(*self.gather(tuple(words)), strict=True):
            ranks: dict[str, list[int]] = {}
            for rank, word in enumerate(seen):
                if word is not None:
                    ranks.setdefault(word, []).append(rank)
            if len(ranks) > 1:
                listed = ", ".join(f"{word} on {_name_ranks(numbers)}" for word, numbers in ranks.items())
                raise SharedError(f"processes see different {what} ({listed}); {remedy}")

    def write(self, where: str, action: Callable[[], None]) -> None:
        """Let the main process write files; every process waits for it.

        If it cannot write (full disk, lost file system), every process raises the same SharedError about `where`, so that none
        waits for a process that has ended.
        """
        problem: Exception | None = None
        if self.is_main:
            try:
                action()
            except (OSError, SafetensorError, UserError) as error:
                problem = error
        self._raise_if_any(problem, lambda error: unwritable_message(where, error))

    def _raise_if_any(
        self, problem: Exception | None, put_into_words: Callable[[Exception], str] = _system_message
    ) -> None:
        """Raise the same SharedError in all processes if any has a problem; `put_into_words` is for errors of the system.

        The main process's message stands first; those of others name rank and host, unless they are the same.
        """
        if not self.any(problem is not None)[0]:
            return
        message = str(problem) if problem is None or isinstance(problem, UserError) else put_into_words(problem)
        messages = self.gather((place(self._rank), None if problem is None else message))
        texts: dict[str, str] = {}
        for rank, (where, text) in enumerate(messages):
            if text is not None:
                texts.setdefault(text, f"{where}: {text}" if rank else text)
        raise SharedError("\n".join(texts.values())) from problem


def _name_ranks(ranks: Sequence[int]) -> str:
    """Return ranks for an error message, the first three by number."""
    more = f" and {len(ranks) - 3} more" if len(ranks) > 3 else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks[:3]))}{more}"
