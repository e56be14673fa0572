"""How many tasks a job array has: as many as Slurm takes, found by halving what it refuses."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from common.errors import UserError
from recipes.run.slurm.programs import TooManyTasks

MAX_TASKS = 1000
"""Largest array that Slurm takes by default: its MaxArraySize is then 1001."""

Item = TypeVar("Item")


class ArraySizes:
    """Divides tasks into arrays that Slurm takes; knows from one call to the next what it took."""

    def __init__(self) -> None:
        """Begin with the largest arrays."""
        self._largest = self._next = MAX_TASKS

    def submit(
        self, tasks: Sequence[Item], submit_array: Callable[[Sequence[Item]], str]
    ) -> Iterator[tuple[str, Sequence[Item]]]:
        """Submit tasks in their order; yield each array that Slurm took, as its job id and its tasks.

        `submit_array` submits its tasks as one array and returns the job id. An array that is refused for its size is halved. What
        fits next to other jobs now may grow later: it doubles with each array that is taken, until the next refusal.

        Raise TooManyTasks where Slurm takes not one task more for now, UserError where it takes no arrays, and what
        `submit_array` raises.
        """
        has_refused = False
        while tasks:
            part = tasks[: self._next]
            try:
                job = submit_array(part)
            except TooManyTasks as error:
                if len(part) == 1 and error.is_lasting:
                    raise UserError(f"sbatch takes no job array, not even of one task: {error}") from error
                has_refused, self._next = True, max(1, len(part) // 2)
                if error.is_lasting:
                    self._largest = self._next
                if len(part) == 1:
                    raise
                continue
            yield job, part
            tasks = tasks[len(part) :]
            if not has_refused:
                self._next = min(self._largest, 2 * self._next)
