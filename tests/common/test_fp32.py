"""TF32 is one choice for products and convolutions, made by train.precision; pixels are computed without it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from common.data.augment import color_on_device
from common.data.augment.color_on_device import apply_on_batch
from common.data.augment.parameters import NUM_PARAMETERS
from common.data.token_labels.reader import TokenLabelBatch
from common.data.token_labels.targets import token_targets
from common.errors import UserError
from common.evaluation.knn import nearest_neighbors
from common.evaluation.reid import ReidFeatures, rank_gallery
from common.fp32 import allow_tf32
from common.training.accelerator import build_accelerator
from finetune.reid.triplet import batch_hard_triplet


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


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_a_run_that_is_told_to_use_the_cpu_has_no_precision_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    with pytest.raises(UserError, match=f"train.precision = {precision}: needs a GPU, and ACCELERATE_USE_CPU"):
        build_accelerator(precision)


class Products(TorchDispatchMode):
    """Records how matrix products are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[tuple[bool, bool]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket.__name__ in ("mm", "bmm", "addmm", "baddbmm", "affine_grid_generator"):
            self.modes.append(modes())
        return func(*args, **kwargs or {})


def test_measures_and_targets_are_computed_in_full_precision() -> None:
    """k-NN, retrieval and the geometry of token labels mean the same at every train.precision."""
    numbers = torch.arange(6)
    features = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    images = ReidFeatures(features.detach(), numbers // 2, numbers % 2)
    labels = TokenLabelBatch(torch.zeros(1, 4, 4, 1).int(), torch.ones(1, 4, 4, 1).half(), torch.eye(2, 3)[None])
    allow_tf32(True)
    for compute in (
        lambda: nearest_neighbors(features.detach(), features.detach(), k=2),
        lambda: rank_gallery(images, images),
        lambda: token_targets(labels, (2, 2), 3),
    ):
        with Products() as products:
            compute()
        assert products.modes == [(False, False)] and modes() == (True, True)
    with Products() as products:
        batch_hard_triplet(features, numbers // 2, margin=None).backward()
    assert not products.modes  # differences


def test_pixels_are_computed_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    found, original = [], color_on_device._map_batch
    monkeypatch.setattr(color_on_device, "_map_batch", lambda *a, **k: (found.append(modes()), original(*a, **k))[1])
    allow_tf32(True)
    apply_on_batch(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, NUM_PARAMETERS), sigma_limit=1.0)
    assert found == [(False, False)] * 2 and modes() == (True, True)
