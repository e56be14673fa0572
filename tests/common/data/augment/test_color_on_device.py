"""The compiled color augmentation: one graph, which neither copies constants nor convolves, and the pixels of the eager one."""

import numpy as np
import pytest
import torch
from torch import Tensor

from common.data.augment import parameters as columns
from common.data.augment.color_on_device import (
    apply_on_batch,
    blur_by_convolution,
    blur_by_shifts,
    compiled_color,
)
from common.data.augment.multi_crop import CropsConfig, build_multi_crop
from common.rng import SampleKey


def crops_and_parameters(channels: int = 3) -> tuple[Tensor, Tensor]:
    """Return (20, channels, 24, 24) crops of noise and the parameters drawn for them; uint8 for 3 channels, else float32."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 40, 3), dtype=np.uint8) for _ in range(10)]
    keys = [SampleKey(0, number, number, 0) for number in range(10)]
    crops = CropsConfig(global_size=24, num_local=0)
    views = build_multi_crop(crops, 0, color_in_worker=False)(images, keys)
    block, parameters = views.blocks[0].flatten(0, 1), views.parameters[0].flatten(0, 1)
    return (block if channels == 3 else block.repeat(1, 2, 1, 1)[:, :channels].float()), parameters


@pytest.mark.parametrize("channels", [3, 5])
def test_compiled_augmentation_is_one_graph_with_the_same_pixels(channels: int) -> None:
    crops, parameters = crops_and_parameters(channels)
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    compiled = compiled_color(backend=keep)
    for _ in range(2):
        difference = (
            compiled(crops, parameters, sigma_limit=2.0) - apply_on_batch(crops, parameters, sigma_limit=2.0)
        ).abs()
    assert difference.mean() < 1e-3 and difference.quantile(0.999) <= 1
    assert len(graphs) == 1
    operations = {str(node.target) for node in graphs[0].graph.nodes if node.op != "placeholder"}
    assert not [name for name in operations if "conv" in name or name in ("to", "tensor")]


@pytest.mark.parametrize("radius", [1, 6])
def test_blur_by_shifts_is_the_convolution(radius: int) -> None:
    crops, parameters = crops_and_parameters()
    sigma = parameters[:, columns.BLUR_SIGMA].clamp(max=radius / 3)
    images = crops.float()[..., :16]
    assert sigma.max() > 0 and (sigma == 0).any()
    torch.testing.assert_close(
        blur_by_shifts(images, sigma, radius), blur_by_convolution(images, sigma, radius), atol=1e-3, rtol=0
    )
