"""Tests that no operation of a step synchronizes with the GPU, on fake tensors."""

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from common.data.augment import color
from common.data.augment.color import apply_on_batch
from common.data.augment.parameters import NUM_PARAMETERS
from common.training.optimizers import clip_gradients
from common.training.sam import SharpnessAware


class Synchronizations(TorchDispatchMode):
    """Records operations that synchronize: blocking copies, and reads of values."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = str(func)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name.startswith(("aten._local_scalar_dense", "aten.nonzero")) and tensors[0].device.type == "cuda":
            self.operations.append(name)
        result = func(*args, **kwargs)
        kinds = {t.device.type for t in [*tensors, *(x for x in tree_leaves(result) if isinstance(x, torch.Tensor))]}
        if (
            name.startswith(("aten._to_copy", "aten.copy_"))
            and kinds == {"cpu", "cuda"}
            and not kwargs.get("non_blocking")
        ):
            self.operations.append(name)
        return result


@pytest.fixture
def synchronizations() -> Iterator[Synchronizations]:
    color._constants.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True), Synchronizations() as mode:
        yield mode
    color._constants.cache_clear()  # these are fake tensors, too


def test_color_augmentation(synchronizations: Synchronizations) -> None:
    crops = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="cuda")
    records = torch.empty(4, NUM_PARAMETERS, device="cuda")
    apply_on_batch(crops, records, sigma_limit=2.0)  # copies its constants to the device once
    synchronizations.operations.clear()
    apply_on_batch(crops, records, sigma_limit=2.0)
    assert synchronizations.operations == []


def test_gradient_clipping(synchronizations: Synchronizations) -> None:
    parameters = [torch.nn.Parameter(torch.empty(3, 3, device="cuda")) for _ in range(4)]
    for parameter in parameters:
        parameter.grad = torch.empty(3, 3, device="cuda")
    clip_gradients(parameters, 1.0, per_parameter=True)
    assert synchronizations.operations == []


def test_sam(synchronizations: Synchronizations) -> None:
    parameter = torch.nn.Parameter(torch.empty(3, 3, device="cuda"))
    parameter.grad = torch.empty(3, 3, device="cuda")
    with SharpnessAware([parameter], 0.05).perturbed():
        pass
    assert synchronizations.operations == []
