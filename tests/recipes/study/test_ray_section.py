"""Section `ray`: values of stages over those of the section, a file over both, and messages about invalid ones."""

from pathlib import Path

import pytest

from common.errors import UserError
from recipes.study.ray_section import RayEntry, RayStageEntry, build_ray, memory_bytes
from recipes.study.resources import resources_of

STAGES = ("pretrain", "finetune")


def written(folder: Path, text: str) -> Path:
    """Return a file with the text."""
    path = folder / "ray.yaml"
    path.write_text(text)
    return path


def test_values_of_a_stage_are_over_those_of_the_section_and_a_file_is_over_both(tmp_path: Path) -> None:
    section = RayEntry(address="auto", cpus_per_process=2, stages={"pretrain": RayStageEntry(gpus_per_node=8)})
    entry = build_ray(section, written(tmp_path, "address: 10.0.0.1:6379\ngpus_per_node: 1\nmemory: 2G"), STAGES)
    pretrain, finetune = resources_of(entry, "pretrain"), resources_of(entry, "finetune")
    assert (entry.address, entry.retries) == ("10.0.0.1:6379", 3)
    assert (pretrain.gpus_per_node, pretrain.processes_per_node, pretrain.cpus_per_process) == (8, 8, 2)
    assert (finetune.gpus_per_node, finetune.num_processes, finetune.memory) == (1, 1, "2G")


def test_memory_is_in_powers_of_1024() -> None:
    assert memory_bytes("512M") == 512 * 2**20
    assert memory_bytes("1.5G") == 3 * 2**29


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adress: auto", "adress: unknown key. Did you mean address?"),
        ("nodes: 2", "nodes: 2: on Ray a run is on one node. Use --engine slurm"),
        ("stages: {pretrain: {nodes: 4}}", "stages.pretrain.nodes: 4: on Ray a run is on one node"),
        ("memory: 32", "memory: 32: must be a number with a unit, such as 512M or 32G."),
        ("memory: 32 GB", "memory: 32 GB: must be a number with a unit"),
        (
            "address: ray://head:10001",
            "address: ray://head:10001: Ray Client is not supported. Run the command on a node",
        ),
        ("gpus_per_node: -1", "gpus_per_node: -1 must not be negative."),
        ("retries: -1", "retries: -1 must not be negative."),
        ("stages: {pretain: {gpus_per_node: 1}}", "ray.stages.pretain: no stage of the study. Did you mean pretrain?"),
        ("- a", "must be a mapping of the keys of a study's section ray"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_invalid_values_are_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        build_ray(RayEntry(), written(tmp_path, text), STAGES)
    assert message in str(error.value) and "--ray" in str(error.value) or "ray.stages" in str(error.value)
