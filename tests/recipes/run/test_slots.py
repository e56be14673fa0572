"""Slots: runs of several processes divide GPUs and cores among each other, and what the machine lacks is an error."""

from pathlib import Path

import pytest

from common.errors import UserError
from common.training.launch_environment import default_config_file
from recipes.run import engines, slots
from recipes.run.engines import slot_environment
from recipes.run.slots import Slots, choose_slots

EIGHT = tuple(map(str, range(8)))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """A machine of eight GPUs and 64 cores; return its environment, without a configuration file of accelerate."""
    monkeypatch.setattr(slots, "visible_devices", lambda: EIGHT)
    monkeypatch.setattr(engines, "available_cores", lambda: 64)
    return {"HF_HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("arguments", "count", "processes"),
    [
        (("--multi_gpu", "--num_processes", "8"), 1, 8),
        (("--multi_gpu", "--num_processes=4"), 2, 4),
        (("--multi_gpu", "--num-processes=3"), 2, 3),
        (("--multi_gpu",), 1, 8),
        (("--multi_gpu", "--num_processes=16", "--num_machines=2"), 1, 8),
        (("--num_processes=1", "--mixed_precision=bf16"), 8, 1),
    ],
)
def test_a_slot_has_a_gpu_for_each_process(
    machine: dict[str, str], arguments: tuple[str, ...], count: int, processes: int
) -> None:
    assert choose_slots(None, arguments, machine) == Slots(count, EIGHT, processes)


def test_each_of_two_runs_has_gpus_and_cores_for_its_processes(machine: dict[str, str]) -> None:
    chosen = choose_slots(None, ("--multi_gpu", "--num_processes=4"), machine)
    shares = [slot_environment(number, chosen.count, EIGHT, processes=chosen.processes) for number in range(2)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0,1,2,3", "4,5,6,7"]
    assert [share["OMP_NUM_THREADS"] for share in shares] == ["8", "8"]


def test_configuration_file_counts_with_arguments_of_the_user(machine: dict[str, str]) -> None:
    path = Path(default_config_file(machine))
    path.parent.mkdir(parents=True)
    path.write_text("distributed_type: MULTI_GPU\nnum_processes: 8\n")
    assert choose_slots(None, ("--mixed_precision=no",), machine).count == 1
    assert choose_slots(None, environment=machine).count == 8  # runs of one process do not read it


def test_processes_on_cpus_divide_the_cores(machine: dict[str, str]) -> None:
    arguments = ("--multi_gpu", "--num_processes=2")
    assert choose_slots(None, arguments, machine | {"ACCELERATE_USE_CPU": "true"}) == Slots(4, (), 2)
    assert choose_slots(3, arguments, machine | {"ACCELERATE_USE_CPU": "true"}) == Slots(3, (), 2)


@pytest.mark.parametrize(
    ("jobs", "arguments", "words"),
    [
        (0, (), "--jobs 0: must be at least 1"),
        (8, ("--multi_gpu", "--num_processes=8"), "8 runs of 8 processes need 64 GPUs.* Set --jobs 1"),
        (None, ("--multi_gpu", "--num_processes=16"), "16 processes .* Set --num_processes 8"),
        (None, ("--multi_gpu", "--num_processes=2", "--gpu_ids=0,1"), "gpu_ids .* CUDA_VISIBLE_DEVICES"),
        (None, ("--num_processes=two",), "num_processes = two"),
    ],
)
def test_what_the_gpus_do_not_suffice_for_is_an_error(
    machine: dict[str, str], jobs: int | None, arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        choose_slots(jobs, arguments, machine)


def test_runs_of_one_process_may_share_a_gpu(machine: dict[str, str]) -> None:
    assert choose_slots(16, environment=machine) == Slots(16, EIGHT, 1)
