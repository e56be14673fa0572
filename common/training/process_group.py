"""Decisions that all processes of a run make together: a stop, a checkpoint, an error of one that reads or writes files."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import torch.distributed as distributed
from safetensors import SafetensorError

from common.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

Found = TypeVar("Found")
logger = logging.getLogger(__name__)


class ProcessGroup:
    """Reduce flags and errors over the processes of a run.

    Uses gloo on the CPU, apart from the gradients: a flag that is reduced at every step must not make the host wait for the
    device.
    """

    def __init__(self, accelerator: "Accelerator") -> None:
        self.is_main: bool = accelerator.is_main_process
        self._is_distributed = accelerator.num_processes > 1
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

    def read(self, action: Callable[[], Found], describe: Callable[[Found], str] | None = None) -> Found:
        """Return what `action` reads in this process. If it fails in any process, all raise a UserError, so that none waits.

        `describe` puts what was read into words; if processes read different things, all raise a UserError, too.
        """
        problem: UserError | None = None
        found: Found
        try:
            found = action()
        except (UserError, OSError) as error:
            problem = error if isinstance(error, UserError) else UserError(f"out: cannot be read ({error})")
            if not self.is_main:  # the main process prints its own error
                logger.error("error in a process other than the main one: %s", problem)
        if self.any(problem is not None)[0]:
            raise problem or UserError("another process of this run cannot read its files; its error is logged above")
        if describe is not None and self._is_distributed:
            described: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(described, describe(found), group=self._group)
            if len(set(described)) > 1:
                listed = "; ".join(f"process {rank} finds {words}" for rank, words in enumerate(described))
                raise UserError(
                    f"out: the processes of this run read different things there: {listed}. Do all of them see the same folder?"
                )
        return found

    def write(self, where: str, action: Callable[[], None]) -> None:
        """Let the main process write files; every process waits for it.

        If it cannot write (full disk, lost file system), every process raises the same UserError about `where`, so that none
        waits for a process that has ended.
        """
        problem: Exception | None = None
        if self.is_main:
            try:
                action()
            except (OSError, SafetensorError, UserError) as error:
                problem = error
        if self.any(problem is not None)[0]:
            if isinstance(problem, UserError):
                raise problem
            reason = str(problem) if problem else "see the error of the main process"
            raise UserError(
                f"{where} cannot be written ({reason}). Everything written before is intact: free some space or choose another "
                "folder, and run the same command again."
            ) from problem
