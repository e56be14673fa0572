"""Inference over a split: how its batches come to the device."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from common.data.config import DataConfig
from common.data.open_splits import open_splits
from common.evaluation import inference


class Loaded(Exception):
    """Raised instead of building a loader."""


@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("cpu", False)])
def test_batches_for_a_gpu_are_in_page_locked_memory(
    monkeypatch: pytest.MonkeyPatch, device: str, pinned: bool
) -> None:
    found: list[bool] = []

    def build(*_: Any, pin_memory: bool, **__: Any) -> Any:
        found.append(pin_memory)
        raise Loaded

    monkeypatch.setattr(inference, "build_evaluation_loader", build)
    data = DataConfig(source="digits", image_size=12)
    split = open_splits(data, labeled=True).test
    run = SimpleNamespace(num_processes=1, rank=0, device=torch.device(device))
    with pytest.raises(Loaded):
        inference.predict(split, torch.nn.Identity(), run, data, crop_pct=1.0, batch_size=8)  # type: ignore[arg-type]
    assert found == [pinned]
