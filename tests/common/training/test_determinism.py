"""`train.deterministic`: PyTorch's deterministic algorithms, and none of the operations that are known to have none on a GPU."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from conftest import problems_of
from torch.utils._python_dispatch import TorchDispatchMode

from common.models.multi_crop import resample_position
from common.models.networks import ModelConfig, build_network
from common.training.config import TrainConfig
from common.training.determinism import set_deterministic
from common.training.precision import configure_execution


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    set_deterministic(True)
    yield
    set_deterministic(False)
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


class Operations(TorchDispatchMode):
    """Records the names of operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


def test_algorithms_and_workspace_are_set_and_unset(deterministic: None) -> None:
    assert torch.are_deterministic_algorithms_enabled() and torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    set_deterministic(False)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("grid", "old_grid"), [((6, 6), (14, 14)), ((2, 4), (4, 6)), ((16, 16), (14, 14))])
def test_resampling_by_products_is_the_interpolation(
    deterministic: None, grid: tuple[int, int], old_grid: tuple[int, int]
) -> None:
    position = torch.randn(1, 1 + old_grid[0] * old_grid[1], 8, requires_grad=True)
    values, gradients = [], []
    for enabled in (False, True):
        set_deterministic(enabled)
        resampled = resample_position(position, grid, old_grid=old_grid)
        values.append(resampled.detach())
        gradients.append(torch.autograd.grad(resampled.sin().sum(), position)[0])
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_a_step_on_a_gpu_has_neither_fused_attention_nor_the_gradient_of_resampling(
    deterministic: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # the pretended GPU has none
    gpu = torch.device("meta")  # stands for one; there PyTorch's attention consists of products and this softmax
    varying, found = {"aten._safe_softmax.default", "aten.upsample_bicubic2d_backward.default"}, {}
    for enabled in (False, True):
        set_deterministic(enabled)
        network = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=0, multi_crop=True)
        configure_execution(network, TrainConfig(deterministic=enabled), torch.device("cuda"))
        with Operations() as operations:
            network.to(gpu)(torch.empty(2, 3, 8, 8, device=gpu)).sum().backward()
        found[enabled] = operations.names & varying
    assert found == {False: varying, True: set()}


def test_it_is_refused_with_the_compiler() -> None:
    assert problems_of(TrainConfig, deterministic=True, compile=True).keys() == {"deterministic"}
    assert not problems_of(TrainConfig, deterministic=True)


def test_runs_on_cpus_are_unchanged(stage, tmp_path: Path) -> None:
    assert stage("pretrain", tmp_path / "run", "train.deterministic=true", "train.epochs=1") == 0
    assert not torch.are_deterministic_algorithms_enabled()
