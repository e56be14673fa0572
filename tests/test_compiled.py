"""Runs with `train.compile`: losses of the eager run, bit-exact resume. Skipped without a C++ compiler."""

from pathlib import Path

import pytest
from conftest import assert_same_run, can_use_kernels, has_compiler, read_losses
from forked_runs import Fault, fork_run

pytestmark = [pytest.mark.long, pytest.mark.skipif(not has_compiler(), reason="requires a C++ compiler")]
SETTINGS = (
    "train.compile=true",
    "crops.num_local=0",
    "train.precision=bf16",
    "model.drop_path=0.2",
    "train.checkpoint_steps=3",
)


def test_compiled_run_resumes_bit_exactly_and_matches_eager_losses(tmp_path: Path) -> None:
    uninterrupted, resumed, eager = (tmp_path / name for name in ("uninterrupted", "resumed", "eager"))
    assert fork_run("pretrain", uninterrupted, *SETTINGS) == 0
    assert fork_run("pretrain", resumed, *SETTINGS, faults=[Fault("step", 5)]) < 0
    assert fork_run("pretrain", resumed, *SETTINGS) == 0
    assert_same_run(uninterrupted, resumed)

    # A compiled run uses the C++ kernels where they are available: compared with a run with kernels, only the compiler differs.
    kernels = f"train.kernels={str(can_use_kernels()).lower()}"
    assert fork_run("pretrain", eager, *SETTINGS[1:], "model.drop_path=0.0", kernels) == 0
    compiled = tmp_path / "compiled"
    assert fork_run("pretrain", compiled, *SETTINGS, "model.drop_path=0.0") == 0
    assert read_losses(compiled) == pytest.approx(read_losses(eager), rel=5e-3)
    assert read_losses(compiled) != read_losses(eager)
