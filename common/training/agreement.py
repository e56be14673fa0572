"""Owns what processes must agree on before they act: a stop, a checkpoint, an error of the one that writes files."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as distributed
from safetensors import SafetensorError

from common.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator


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

    def write(self, where: str, action: Callable[[], None]) -> None:
        """Let the main process write files; every process waits for it.

        When it cannot write (a full disk, a lost file system), every process raises the same UserError about `where`, so that
        none waits for another that is gone.
        """
        problem: Exception | None = None
        if self.is_main:
            try:
                action()
            except (OSError, SafetensorError) as error:
                problem = error
        if self.any(problem is not None)[0]:
            reason = str(problem) if problem else "the main process says why"
            raise UserError(
                f"{where} cannot be written ({reason}). What was written before is whole: make room, or name another place, "
                "and give the same command again."
            ) from problem
