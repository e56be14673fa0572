"""How jobs become arrays: what starts after tasks of one array is as few arrays as possible."""

from pathlib import Path

import pytest

from recipes.run.engine import Job
from recipes.run.slurm.submissions import format_indices
from recipes.run.slurm.submitter import divide


def jobs(*names: str) -> list[Job]:
    """Return jobs with folders of these names."""
    return [Job("finetune", (), Path("/study/runs") / name) for name in names]


def divided(*entries: tuple[str, str]) -> list[tuple[str, list[tuple[int | None, str]]]]:
    """Return the arrays of jobs by name, each with the id of the job that it starts after."""
    made = jobs(*(name for name, _ in entries))
    after = {job: number for job, (_, number) in zip(made, entries) if number}
    return [(waits, [(index, job.folder.name) for index, job in array]) for waits, array in divide(made, after)]


def test_what_starts_after_nothing_is_one_array() -> None:
    assert divided(("a", ""), ("b", "")) == [("", [(None, "a"), (None, "b")])]


def test_what_starts_after_one_job_is_one_array() -> None:
    assert divided(("a", "7_3"), ("b", "7_3")) == [("afterok:7_3", [(None, "a"), (None, "b")])]


def test_what_starts_after_many_tasks_of_an_array_has_their_indices() -> None:
    arrays = divided(("c", "7_9"), ("a", "7_0"), ("b", "7_3"))
    assert arrays == [("aftercorr:7", [(0, "a"), (3, "b"), (9, "c")])]


def test_arrays_are_as_many_as_a_task_has_jobs() -> None:
    children = [(f"{task}{number}", f"7_{task}") for task in range(5) for number in range(2 if task else 1)]
    assert divided(*children) == [
        ("aftercorr:7", [(0, "00"), (1, "10"), (2, "20"), (3, "30"), (4, "40")]),
        ("aftercorr:7", [(1, "11"), (2, "21"), (3, "31"), (4, "41")]),
    ]


def test_where_tasks_are_fewer_than_the_jobs_of_one_each_task_has_an_array() -> None:
    children = [(f"{task}{number}", f"7_{task}") for number in range(3) for task in range(2)]
    assert divided(*children) == [
        ("afterok:7_0", [(None, "00"), (None, "01"), (None, "02")]),
        ("afterok:7_1", [(None, "10"), (None, "11"), (None, "12")]),
    ]


def test_tasks_of_different_arrays_are_kept_apart() -> None:
    arrays = divided(("a", "7_0"), ("b", "8_0"), ("c", "7_1"), ("d", ""))
    assert [waits for waits, _ in arrays] == ["", "aftercorr:7", "afterok:8_0"]


@pytest.mark.parametrize(
    ("indices", "text"), [([0], "0"), ([0, 1, 2], "0-2"), ([3, 0, 9, 10, 1], "0-1,3,9-10"), ([5, 7], "5,7")]
)
def test_indices_are_as_short_as_sbatch_takes_them(indices: list[int], text: str) -> None:
    assert format_indices(indices) == text
