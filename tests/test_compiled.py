"""A run with `train.compile`: the same losses as without, resumed bit by bit. Left out where there is no C++ compiler."""

from pathlib import Path

import pytest
from conftest import assert_same_run, can_use_kernels, has_compiler, read_losses
from forked_runs import Fault, run

pytestmark = pytest.mark.skipif(not has_compiler(), reason="there is no C++ compiler here")
SETTINGS = (
    "train.compile=true",
    "views.local_count=0",
    "train.precision=bf16",
    "model.drop_path=0.2",
    "train.checkpoint_steps=3",
)


def test_a_compiled_run_is_resumed_bit_by_bit_and_learns_as_the_other(tmp_path: Path) -> None:
    whole, parts, plain = (tmp_path / name for name in ("whole", "parts", "plain"))
    assert run("pretrain", whole, *SETTINGS) == 0
    assert run("pretrain", parts, *SETTINGS, faults=[Fault("step", 5)]) < 0
    assert run("pretrain", parts, *SETTINGS) == 0
    assert_same_run(whole, parts)

    # Where our kernels run, a compiled run uses them: held against a run by kernels, only the compiler differs.
    kernels = f"train.kernels={str(can_use_kernels()).lower()}"
    assert run("pretrain", plain, *SETTINGS[1:], "model.drop_path=0.0", kernels) == 0
    compiled = tmp_path / "compiled"
    assert run("pretrain", compiled, *SETTINGS, "model.drop_path=0.0") == 0
    assert read_losses(compiled) == pytest.approx(read_losses(plain), rel=5e-3)
    assert read_losses(compiled) != read_losses(plain)
