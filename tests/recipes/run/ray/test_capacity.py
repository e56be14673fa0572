"""What a run asks of Ray, and what no node has."""

from recipes.run.ray.capacity import amounts, lacking
from recipes.study.resources import Resources

NODE = {"CPU": 4.0, "memory": 8.0 * 2**30}


def test_amounts_are_those_of_all_processes() -> None:
    resources = Resources(processes_per_node=2, cpus_per_process=3, gpus_per_node=2, memory="1G")
    assert amounts(resources) == {"CPU": 6, "GPU": 2, "memory": 2**30}


def test_what_no_node_has_is_named() -> None:
    assert lacking(Resources(cpus_per_process=4, memory="8G"), [NODE]) == ""
    assert lacking(Resources(gpus_per_node=2), [NODE]) == "1 CPU with 2 GPUs"
    assert lacking(Resources(memory="9G"), [NODE]) == "1 CPU with 9G of memory"
    assert lacking(Resources(), []) == "1 CPU"


def test_one_node_has_all_of_it() -> None:
    assert lacking(Resources(gpus_per_node=2, cpus_per_process=4), [NODE, {"GPU": 8.0}]) == "4 CPUs with 2 GPUs"
