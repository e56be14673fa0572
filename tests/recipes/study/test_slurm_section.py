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
        (
            "lines: ['#SBATCH --nodes=4']",
            "lines: #SBATCH --nodes=4: --nodes is set by the key nodes. Set that key instead.",
        ),
        ("lines: ['#SBATCH -C a100 -N 4  # big']", "-N is set by the key nodes."),
        ("lines: ['#SBATCH --tim=08:00:00']", "--tim is set by the key time."),
        ("lines: ['#SBATCH --signal=USR1@60']", "--signal is set by the key save_seconds."),
        ("lines: ['#SBATCH --export=NONE']", "--export is set by the study for every job. Remove it."),
        ("lines: ['#SBATCH -M big']", "name the cluster in the environment variable SLURM_CLUSTERS."),
        ("lines: ['#SBATCH --clusters=big']", "with --clusters the study would not find its jobs."),
        ("lines: ['#SBATCH --wait']", "with --wait sbatch would not return before the runs have ended."),
        ("lines: ['#SBATCH --test-only']", "with --test-only sbatch would submit nothing."),
        ("lines: ['#SBATCH --comment=\"a']", "No closing quotation. Close every quotation mark."),
        ("lines: ['#SBATCH --gres=gpu:a100:2']", "GPUs are set by the key gpus_per_node. Set that key instead."),
        ("lines: ['#SBATCH --gres gpu:2']", "GPUs are set by the key gpus_per_node. Set that key instead."),
        ("lines: ['# SBATCH --exclusive']", "sbatch takes it for a comment. Options begin with #SBATCH."),
        ("lines: [export OMP_NUM_THREADS=4]", "OMP_NUM_THREADS is set by the key cpus_per_process."),
        ("- a", "must be a mapping"),
        ("a: [", "not readable as YAML"),
    ],
)
def test_invalid_values_are_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        build_slurm(SlurmEntry(), written(tmp_path, text), STAGES)
    assert message in str(error.value)


def test_lines_that_the_study_does_not_override_are_kept(tmp_path: Path) -> None:
    lines = (
        "#SBATCH --constraint=a100 --time-min=60 -x n3 --wait-all-nodes=1 --cluster-constraint=x",
        "#SBATCH --gres=scratch:1 --mail-user=me --mem-bind=local  # not --nodes=2",
        "module load cuda",
        "export NCCL_DEBUG=INFO",
        "##SBATCH --nodes=2",
    )
    text = "\n".join(["lines:", *(f"  - '{line}'" for line in lines)])
    assert build_slurm(SlurmEntry(), written(tmp_path, text), STAGES).lines == lines
