"""Missing compilers are one error before training, on CPUs and on GPUs."""

import sysconfig
from pathlib import Path

import pytest
import torch

from common.errors import UserError
from common.models.networks import ModelConfig, build_network
from common.training import compilers
from common.training.compilers import check_compiler, check_triton
from common.training.config import TrainConfig
from common.training.precision import configure_execution


def test_a_missing_cpp_compiler_is_reported_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"train\.compile = true: needs a C\+\+ compiler, .* no-such-compiler"):
        check_compiler("train.compile")


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which Triton has all that it needs; return the folder of Python's headers."""
    (tmp_path / "Python.h").touch()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compilers, "find_spec", lambda _: object())
    monkeypatch.setattr(compilers.shutil, "which", lambda name: f"/usr/bin/{name}" if name == "gcc" else None)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    return tmp_path


def test_complete_machine_compiles_for_a_gpu(complete: Path) -> None:
    check_triton("train.compile")


@pytest.mark.parametrize(
    "missing", ["triton is not installed", r"gcc or clang.* is not installed", "Python.h does not"]
)
def test_what_triton_lacks_is_named(complete: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    if "triton" in missing:
        monkeypatch.setattr(compilers, "find_spec", lambda _: None)
    elif "gcc" in missing:
        monkeypatch.setattr(compilers.shutil, "which", lambda _: None)
    else:
        (complete / "Python.h").unlink()
    network = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=2)
    with pytest.raises(UserError, match=rf"train\.compile = true: .*{missing}.*train\.compile=false"):
        configure_execution(network, TrainConfig(compile=True), torch.device("cuda"))


def test_compiler_named_by_cc_counts(complete: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(UserError, match="no-such-compiler; the environment variable CC"):
        check_triton("train.compile")
