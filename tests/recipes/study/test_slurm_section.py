"""Section `slurm`: values of stages over those of the section, a file over both, and messages about invalid ones."""

from pathlib import Path

import pytest

from common.errors import UserError
from recipes.study.resources import resources_of
from recipes.study.slurm_section import SlurmEntry, SlurmStageEntry, build_slurm

STAGES = ("pretrain", "finetune")


def written(folder: Path, text: str) -> Path:
    """Return a file with the text."""
    path = folder / "slurm.yaml"
    path.write_text(text)
    return path


def test_values_of_a_stage_are_over_those_of_the_section_and_a_file_is_over_both(tmp_path: Path) -> None:
    section = SlurmEntry(partition="cpu", time="30", stages={"pretrain": SlurmStageEntry(nodes=2)})
    file = written(tmp_path, "time: 08:00:00\ngpus_per_node: 4\nstages: {pretrain: {gpus_per_node: 8}}")
    entry = build_slurm(section, file, STAGES)
    pretrain, finetune = resources_of(entry, "pretrain"), resources_of(entry, "finetune")
    assert (pretrain.partition, pretrain.time, pretrain.nodes) == (
        "cpu",
        "08:00:00",
        1,
    )  # a file replaces a key as a whole
    assert (pretrain.processes_per_node, finetune.processes_per_node) == (8, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nods: 2", "nods: unknown key. Did you mean nodes?"),
        ("time: 8h", "time: 8h: must be a time as Slurm takes it"),
        ("time: 00:02:00", "00:02:00: must be longer than save_seconds = 120 and the 60 s by which"),
        ("stages: {pretrain: {time: 1}}", "stages.pretrain.time: 1: must be longer than save_seconds"),
        ("nodes: 0", "nodes: 0 must be at least 1."),
        ("partition: a b", "partition: 'a b': must be text on one line"),
        ("stages: {pretain: {nodes: 1}}", "slurm.stages.pretain: no stage of the study. Did you mean pretrain?"),
        ("- a", "must be a mapping"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_invalid_values_are_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        build_slurm(None, written(tmp_path, text), STAGES)
    assert message in str(error.value)
