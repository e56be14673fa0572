"""Sizes of job arrays: halved where Slurm refuses them, doubled where it takes them, never beyond what it never takes."""

from collections.abc import Sequence

import pytest

from common.errors import UserError
from recipes.run.slurm.array_sizes import ArraySizes
from recipes.run.slurm.programs import SlurmBusy, TooManyTasks


class Queue:
    """A queue that takes a number of tasks, in arrays of a size; notes what it was asked for."""

    def __init__(self, free: int, largest: int = 1000) -> None:
        self.free, self.largest, self.asked, self.taken = free, largest, list[int](), list[int]()

    def submit(self, tasks: Sequence[int]) -> str:
        """Take an array or refuse it."""
        self.asked.append(len(tasks))
        if len(tasks) > self.largest:
            raise TooManyTasks("Invalid job array specification", is_lasting=True)
        if len(tasks) > self.free:
            raise TooManyTasks("QOSMaxSubmitJobPerUserLimit", is_lasting=False)
        self.free -= len(tasks)
        self.taken += tasks
        return str(len(self.asked))


def fill(sizes: ArraySizes, queue: Queue, tasks: Sequence[int]) -> None:
    """Submit tasks until the queue is full."""
    with pytest.raises(TooManyTasks):
        list(sizes.submit(tasks, queue.submit))


def test_of_600_tasks_a_limit_of_500_takes_500_and_later_the_rest() -> None:
    sizes, queue, tasks = ArraySizes(), Queue(500), list(range(600))
    fill(sizes, queue, tasks)
    assert queue.taken == tasks[:500] and len(queue.asked) < 20
    for _ in range(3):  # while the queue is full, it is asked for a single task
        before = len(queue.asked)
        fill(sizes, queue, tasks[500:])
        assert queue.asked[before:] == [1]
    queue.free, queue.asked = 300, []
    list(sizes.submit(tasks[500:], queue.submit))
    assert queue.taken == tasks and queue.asked == [1, 2, 4, 8, 16, 32, 37]


def test_arrays_are_never_larger_than_slurm_ever_takes() -> None:
    sizes, queue, tasks = ArraySizes(), Queue(10_000, largest=300), list(range(3000))
    arrays = list(sizes.submit(tasks, queue.submit))
    assert queue.asked == [1000, 500, *[250] * 12]
    assert [task for _, part in arrays for task in part] == tasks


def test_without_arrays_there_is_an_error_and_no_end_of_attempts() -> None:
    with pytest.raises(UserError, match="sbatch takes no job array, not even of one task: Invalid job array"):
        list(ArraySizes().submit([1, 2, 3], Queue(10, largest=0).submit))


def test_what_is_refused_for_another_reason_is_not_divided() -> None:
    def submit(_: Sequence[int]) -> str:
        raise SlurmBusy("Unable to contact slurm controller")

    with pytest.raises(SlurmBusy, match="Unable to contact"):
        list(ArraySizes().submit([1, 2, 3], submit))
