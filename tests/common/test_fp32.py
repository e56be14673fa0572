"""TF32 is one choice for products and convolutions, made by train.precision; pixels are computed without it."""

from collections.abc import Iterator

import pytest
import torch

from common.data.augment import color_on_device
from common.data.augment.color_on_device import apply_on_batch
from common.data.augment.parameters import NUM_PARAMETERS
from common.errors import UserError
from common.fp32 import allow_tf32
from common.training.accelerator import build_accelerator


def modes() -> tuple[bool, bool]:
    """Return whether products and convolutions may use TF32."""
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def restore() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def test_fp32_computes_products_and_convolutions_in_full_precision() -> None:
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default
    build_accelerator("fp32")
    assert modes() == (False, False)


def test_tf32_allows_it_for_both_and_needs_a_gpu() -> None:
    allow_tf32(True)
    assert modes() == (True, True)
    with pytest.raises(UserError, match="train.precision = tf32: needs a GPU"):
        build_accelerator("tf32")


def test_pixels_are_computed_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    found, original = [], color_on_device._map_batch
    monkeypatch.setattr(color_on_device, "_map_batch", lambda *a, **k: (found.append(modes()), original(*a, **k))[1])
    allow_tf32(True)
    apply_on_batch(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, NUM_PARAMETERS), sigma_limit=1.0)
    assert found == [(False, False)] * 2 and modes() == (True, True)
