"""Runs with `train.kernels`: losses of the run without kernels, bit-exact resume. Skipped where the kernels are not available."""

from pathlib import Path

import pytest
from conftest import assert_same_run, read_losses
from forked_runs import Fault, fork_run

pytestmark = pytest.mark.usefixtures("kernels")
SETTINGS = ("train.precision=bf16", "train.checkpoint_steps=3")


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_run_with_kernels_resumes_bit_exactly_and_matches_pytorch_losses(tmp_path: Path, stage: str) -> None:
    uninterrupted, resumed, pytorch = (tmp_path / name for name in ("uninterrupted", "resumed", "pytorch"))
    assert fork_run(stage, uninterrupted, *SETTINGS, "train.kernels=true") == 0
    assert fork_run(stage, resumed, *SETTINGS, "train.kernels=true", faults=[Fault("step", 5)]) < 0
    assert fork_run(stage, resumed, *SETTINGS, "train.kernels=true") == 0
    assert_same_run(uninterrupted, resumed)

    assert fork_run(stage, pytorch, *SETTINGS) == 0
    assert read_losses(uninterrupted) == pytest.approx(
        read_losses(pytorch), rel=1e-2
    )  # bf16 differs from fp32 by as much
    assert read_losses(uninterrupted) != read_losses(pytorch)
