"""Variables of launchers: a complete set is a launch, a leftover is removed or refused by name."""

import pytest

from common.errors import UserError
from common.ranks import copies_of_launch, leave_launch, read_rank

ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
SECOND_OF_TWO = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", **ADDRESS}


def test_complete_set_is_a_launch() -> None:
    environment = dict(SECOND_OF_TWO)
    assert read_rank(environment) == 1
    assert environment == SECOND_OF_TWO
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", **ADDRESS}
    assert read_rank(environment := dict(alone)) == 0 and environment == alone


@pytest.mark.parametrize(
    "leftover",
    [
        {},
        {"RANK": "0"},
        {"LOCAL_RANK": "0"},
        {"LOCAL_RANK": "3"},
        {"LOCAL_RANK": "-1"},
        {"RANK": ""},
        {"WORLD_SIZE": "1", "RANK": "0"},
        {"WORLD_SIZE": "1", "RANK": "0", **ADDRESS},
        ADDRESS,
        {"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"},
    ],
)
def test_leftover_of_one_process_is_removed(leftover: dict[str, str]) -> None:
    environment = dict(leftover)
    assert read_rank(environment) == 0
    assert not environment.keys() & {"RANK", "LOCAL_RANK", "WORLD_SIZE"}
    assert environment == {name: value for name, value in leftover.items() if name in environment}


@pytest.mark.parametrize(
    ("leftover", "words"),
    [
        ({"RANK": "1"}, ["RANK = '1'", "less than WORLD_SIZE = 1", "unset RANK`"]),
        (
            {"WORLD_SIZE": "2"},
            ["WORLD_SIZE = '2'", "without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT", "unset WORLD_SIZE`"],
        ),
        ({"WORLD_SIZE": "2", "RANK": "1", **ADDRESS}, ["without LOCAL_RANK", "unset RANK WORLD_SIZE`"]),
        ({"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0", **ADDRESS}, ["RANK = '2'", "less than WORLD_SIZE = 2"]),
        ({**SECOND_OF_TWO, "MASTER_ADDR": ""}, ["without MASTER_ADDR"]),
        ({"RANK": "first"}, ["RANK = 'first'", "RANK is not a number"]),
        ({"WORLD_SIZE": "0"}, ["WORLD_SIZE is not a number"]),
        ({"LOCAL_RANK": "-2"}, ["LOCAL_RANK is not a number"]),
        ({**SECOND_OF_TWO, "MASTER_PORT": "http"}, ["MASTER_PORT is not a number"]),
    ],
)
def test_half_a_launch_is_refused_by_name(leftover: dict[str, str], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        read_rank(dict(leftover))
    assert [word for word in words if word not in str(caught.value)] == []


def test_study_is_no_process_of_a_launch() -> None:
    environment = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", **ADDRESS}
    leave_launch(environment)
    assert environment == ADDRESS
    with pytest.raises(UserError, match="WORLD_SIZE = '2'.*--accelerate-args"):
        leave_launch(dict(SECOND_OF_TWO))


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"SLURM_STEP_NUM_TASKS": "8"}, "srun has started this process 8 times (SLURM_STEP_NUM_TASKS)"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "mpirun has started this process 2 times"),
        ({"PMI_SIZE": "2", "WORLD_SIZE": "1"}, "mpirun has started this process 2 times"),
    ],
)
def test_copies_of_a_run_are_told_how_to_be_one(environment: dict[str, str], words: str) -> None:
    assert words in copies_of_launch(environment)


@pytest.mark.parametrize("environment", [{}, {"PMI_SIZE": "1"}, {"SLURM_STEP_NUM_TASKS": "2", **SECOND_OF_TWO}])
def test_a_process_alone_or_in_a_group_is_no_copy(environment: dict[str, str]) -> None:
    assert copies_of_launch(environment) == ""
