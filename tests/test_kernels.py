"""A run with `train.kernels`: the same losses as without, resumed bit by bit. Left out where there are no kernels."""

from pathlib import Path

import pytest
from conftest import assert_same_run, read_losses
from forked_runs import Fault, run

pytestmark = pytest.mark.usefixtures("kernels")
SETTINGS = ("train.precision=bf16", "train.checkpoint_steps=3")


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_run_by_kernels_is_resumed_bit_by_bit_and_learns_as_the_other(tmp_path: Path, stage: str) -> None:
    whole, parts, plain = (tmp_path / name for name in ("whole", "parts", "plain"))
    assert run(stage, whole, *SETTINGS, "train.kernels=true") == 0
    assert run(stage, parts, *SETTINGS, "train.kernels=true", faults=[Fault("step", 5)]) < 0
    assert run(stage, parts, *SETTINGS, "train.kernels=true") == 0
    assert_same_run(whole, parts)

    assert run(stage, plain, *SETTINGS) == 0
    assert read_losses(whole) == pytest.approx(read_losses(plain), rel=1e-2)  # bf16 is as far from fp32
    assert read_losses(whole) != read_losses(plain)
