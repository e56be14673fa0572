"""No operation of a step waits for the GPU: seen on tensors that only pretend to be on one."""

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from common.data.augment import color as photometry
from common.data.augment.color import apply_on_batch
from common.data.augment.parameters import NUM_PARAMETERS
from common.training.optimizers import clip_gradients
from common.training.sam import SharpnessAware


class Waits(TorchDispatchMode):
    """Collect what would make the processor wait: copies that block, and values read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = str(func)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        if name.startswith(("aten._local_scalar_dense", "aten.nonzero")) and tensors[0].device.type == "cuda":
            self.found.append(name)
        result = func(*args, **kwargs)
        kinds = {t.device.type for t in [*tensors, *(x for x in tree_leaves(result) if isinstance(x, torch.Tensor))]}
        if (
            name.startswith(("aten._to_copy", "aten.copy_"))
            and kinds == {"cpu", "cuda"}
            and not kwargs.get("non_blocking")
        ):
            self.found.append(name)
        return result


@pytest.fixture
def waits() -> Iterator[Waits]:
    photometry._constants.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True), Waits() as mode:
        yield mode
    photometry._constants.cache_clear()  # they only pretend to be on a GPU, too


def test_photometry(waits: Waits) -> None:
    crops = torch.empty(4, 3, 32, 32, dtype=torch.uint8, device="cuda")
    records = torch.empty(4, NUM_PARAMETERS, device="cuda")
    apply_on_batch(crops, records, sigma_limit=2.0)  # its constants are brought there once
    waits.found.clear()
    apply_on_batch(crops, records, sigma_limit=2.0)
    assert waits.found == []


def test_clipping(waits: Waits) -> None:
    parameters = [torch.nn.Parameter(torch.empty(3, 3, device="cuda")) for _ in range(4)]
    for parameter in parameters:
        parameter.grad = torch.empty(3, 3, device="cuda")
    clip_gradients(parameters, 1.0, each=True)
    assert waits.found == []


def test_sharpness(waits: Waits) -> None:
    parameter = torch.nn.Parameter(torch.empty(3, 3, device="cuda"))
    parameter.grad = torch.empty(3, 3, device="cuda")
    with SharpnessAware([parameter], 0.05).climbed():
        pass
    assert waits.found == []
