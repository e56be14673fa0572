"""Owns what processes must agree on before they act: a stop, a checkpoint, an error of one that reads or writes files."""

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


class Agreement:
    """Let the processes of a run answer yes-or-no questions together.

    The answers go over the CPU (gloo), beside the gradients: a question asked at every step must not make the processor
    wait for the accelerator.
    """

    def __init__(self, accelerator: "Accelerator") -> None:
        self.is_main: bool = accelerator.is_main_process
        self._together = accelerator.num_processes > 1
        self._group: Any = None  # the default group, where that is gloo
        if self._together and distributed.get_backend() != "gloo":
            self._group = distributed.new_group(backend="gloo")

    def any(self, *mine: bool) -> tuple[bool, ...]:
        """Return for each question whether any process says yes. Every process must ask."""
        if not self._together:
            return mine
        flags = torch.tensor(mine, dtype=torch.int32)
        distributed.all_reduce(flags, op=distributed.ReduceOp.MAX, group=self._group)
        return tuple(bool(flag) for flag in flags.tolist())

    def read(self, action: Callable[[], Found], tell: Callable[[Found], str] | None = None) -> Found:
        """Return what `action` reads in this process. Where it fails in any process, all raise a UserError: none waits for it.

        `tell` puts what was found into words; processes that found different things raise a UserError too.
        """
        problem: UserError | None = None
        found: Found
        try:
            found = action()
        except (UserError, OSError) as error:
            problem = error if isinstance(error, UserError) else UserError(f"out: cannot be read ({error})")
            if not self.is_main:  # whose own error is told
                logger.error("error in another process than the main one: %s", problem)
        if self.any(problem is not None)[0]:
            raise problem or UserError("another process of this run cannot read its files; it says which above")
        if tell is not None and self._together:
            told: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(told, tell(found), group=self._group)
            if len(set(told)) > 1:
                listed = "; ".join(f"process {rank} finds {words}" for rank, words in enumerate(told))
                raise UserError(
                    f"out: the processes of this run find different things there: {listed}. Do all see one folder?"
                )
        return found

    def write(self, where: str, action: Callable[[], None]) -> None:
        """Let the main process write files; every process waits for it.

        When it cannot write (a full disk, a lost file system), every process raises the same UserError about `where`, so that
        none waits for another that is gone.
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
            reason = str(problem) if problem else "the main process says why"
            raise UserError(
                f"{where} cannot be written ({reason}). What was written before is whole: make room, or name another place, "
                "and give the same command again."
            ) from problem
