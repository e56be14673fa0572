"""What a run asks of a cluster, from the sections of both engines."""

import pytest

from recipes.study.ray_section import RayEntry, RayStageEntry
from recipes.study.resources import Resources, resources_of
from recipes.study.slurm_section import SlurmEntry, SlurmStageEntry

SECTIONS = [(SlurmEntry, SlurmStageEntry), (RayEntry, RayStageEntry)]
Section = type[SlurmEntry] | type[RayEntry]
Stage = type[SlurmStageEntry] | type[RayStageEntry]


@pytest.mark.parametrize(("section", "stage"), SECTIONS)
def test_the_keys_of_a_stage_are_over_those_of_the_section(section: Section, stage: Stage) -> None:
    entry = section(gpus_per_node=1, memory="2G", cpus_per_process=3, stages={"pretrain": stage(gpus_per_node=8)})
    assert resources_of(entry, "finetune") == Resources(
        memory="2G", gpus_per_node=1, processes_per_node=1, cpus_per_process=3
    )
    pretrain = resources_of(entry, "pretrain")
    assert (pretrain.gpus_per_node, pretrain.num_processes, pretrain.cpus_per_node) == (8, 8, 24)
    none = section(gpus_per_node=1, stages={"pretrain": stage(gpus_per_node=0)})
    assert resources_of(none, "pretrain").gpus_per_node == 0


@pytest.mark.parametrize(("section", "stage"), SECTIONS)
def test_processes_are_one_per_gpu_unless_their_number_is_given(section: Section, stage: Stage) -> None:
    assert resources_of(section(), "pretrain") == Resources()
    assert resources_of(section(processes_per_node=3, gpus_per_node=2), "pretrain").num_processes == 3
    assert resources_of(section(processes_per_node=3), "pretrain").is_on_cpu
    assert not resources_of(section(), "pretrain").is_on_cpu


def test_processes_are_those_of_all_nodes() -> None:
    assert resources_of(SlurmEntry(nodes=2, gpus_per_node=8), "pretrain").num_processes == 16
    assert resources_of(SlurmEntry(nodes=2, processes_per_node=3), "pretrain").num_processes == 6
