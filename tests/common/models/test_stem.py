"""A stem must equal the layers listed in its paper, at every multiple of the patch size."""

import math

import pytest
import torch
from torch import nn

from common.errors import UserError
from common.models.stem import Stem, build_stem_layer


def _conv(width: int, stride: int, kernel: int, channels: int = 64) -> nn.Conv2d:
    return nn.Conv2d(width, channels, kernel, stride, (kernel - 1) // 2, bias=False)


def _reference_layers(name: str, strides: tuple[int, ...]) -> nn.Sequential:
    """Return the stems of table 2, written out layer by layer, with width 32."""
    first, second, third, last = strides if len(strides) == 4 else (0, 0, 0, strides[0])
    projection = nn.Conv2d(3 if len(strides) == 1 else 64, 32, last, last)
    c1, c2, c3 = (_conv(3, first, 7), _conv(64, second, 3), _conv(64, third, 3)) if len(strides) == 4 else (None,) * 3
    bn, relu, gelu = (lambda: nn.BatchNorm2d(64)), nn.ReLU, nn.GELU
    layers = {
        "1Proj": [projection],
        "1Proj+1ReLU": [projection, relu()],
        "1Proj+1BN+1ReLU": [projection, nn.BatchNorm2d(32), relu()],
        "3Conv+1Proj": [c1, c2, c3, projection],
        "3Conv+1Proj+1ReLU": [c1, c2, c3, projection, relu()],
        "3Conv+3BN+1Proj": [c1, bn(), c2, bn(), c3, bn(), projection],
        "3Conv+3ReLU+1Proj": [c1, relu(), c2, relu(), c3, relu(), projection],
        "3Conv+3BN+3ReLU+1Proj": [c1, bn(), relu(), c2, bn(), relu(), c3, bn(), relu(), projection],
        "3Conv+3BN+3GELU+1Proj": [c1, bn(), gelu(), c2, bn(), gelu(), c3, bn(), gelu(), projection],
    }
    return nn.Sequential(*layers[name])


CONV = [(2, 1, 1, 4), (2, 2, 2, 1), (1, 1, 1, 8)]
CASES = [(name, (8,)) for name in ("1Proj", "1Proj+1ReLU", "1Proj+1BN+1ReLU")] + [
    (name, strides)
    for name in (
        "3Conv+1Proj",
        "3Conv+1Proj+1ReLU",
        "3Conv+3BN+1Proj",
        "3Conv+3ReLU+1Proj",
        "3Conv+3BN+3ReLU+1Proj",
        "3Conv+3BN+3GELU+1Proj",
    )
    for strides in CONV
]


@pytest.mark.parametrize(("name", "strides"), CASES)
def test_stem_equals_its_layers_written_out(name: str, strides: tuple[int, ...]) -> None:
    stem = build_stem_layer(name, strides)(img_size=24, patch_size=8, embed_dim=32)
    reference = _reference_layers(name, strides)
    shapes = [tensor.shape for tensor in reference.state_dict().values()]
    assert [tensor.shape for tensor in stem.state_dict().values()] == shapes
    reference.load_state_dict(dict(zip(reference.state_dict(), stem.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 24, 24)
    torch.testing.assert_close(stem(images), reference(images).flatten(2).transpose(1, 2), rtol=0, atol=0)


def test_early_convolutions_stem_equals_its_layers_written_out() -> None:
    stem = build_stem_layer("vit_c_1gf")(img_size=32, embed_dim=48).eval()
    layers, width = [], 3
    for channels in (24, 48, 96, 192):
        layers += [_conv(width, 2, 3, channels), nn.BatchNorm2d(channels), nn.ReLU()]
        width = channels
    reference = nn.Sequential(*layers, nn.Conv2d(192, 48, 1)).eval()
    reference.load_state_dict(dict(zip(reference.state_dict(), stem.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(stem(images), reference(images).flatten(2).transpose(1, 2), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["patchify", "conv", "3Conv+1Proj"])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 48), (80, 32)])
def test_any_multiple_of_the_patch_size_is_accepted(name: str, height: int, width: int) -> None:
    stem = build_stem_layer(name)(img_size=32, patch_size=16, embed_dim=8, strict_img_size=False, output_fmt="NHWC")
    images = torch.randn(2, 3, height, width)
    assert stem(images).shape == (2, height // 16, width // 16, 8)
    assert stem.dynamic_feat_size((height, width)) == (height // 16, width // 16)


def test_size_that_is_no_multiple_of_the_patch_is_rejected() -> None:
    with pytest.raises(UserError, match=r"data\.image_size: 18 is not a multiple of the patch size 4; set 16 or 20"):
        build_stem_layer("patchify")(img_size=18, patch_size=4, embed_dim=8)
    stem = build_stem_layer("conv")(img_size=16, patch_size=4, embed_dim=8, strict_img_size=False)
    with pytest.raises(UserError, match="30 is not a multiple of the patch size 4; set 28 or 32"):
        stem(torch.zeros(1, 3, 16, 30))


def test_other_image_size_is_rejected_in_strict_mode() -> None:
    stem = build_stem_layer("conv")(img_size=16, patch_size=4, embed_dim=8)
    with pytest.raises(UserError, match="the images are 8x8, but the network is built for"):
        stem(torch.zeros(1, 3, 8, 8))


def test_invalid_strides_are_rejected_when_the_stem_is_built() -> None:
    with pytest.raises(
        UserError, match=r"model\.stem_strides: \[2,1,1,8\] has the product 16, but the patch size is 8"
    ):
        build_stem_layer("conv", (2, 1, 1, 8))(img_size=32, patch_size=8, embed_dim=8)


def test_grid_follows_the_image_size_and_the_patch_size_is_fixed() -> None:
    stem = build_stem_layer("conv")(img_size=32, patch_size=8, embed_dim=8)
    assert (stem.grid_size, stem.num_patches, stem.feat_ratio(), stem.feat_ratio(False)) == ((4, 4), 16, 8, (8, 8))
    stem.set_input_size((64, 32))
    assert (stem.img_size, stem.grid_size, stem.num_patches) == ((64, 32), (8, 4), 32)
    with pytest.raises(UserError, match=r"model\.patch_size: 4 is not the 8 of this stem"):
        stem.set_input_size(patch_size=4)


def test_early_convolutions_stem_is_initialized_as_in_the_paper() -> None:
    torch.manual_seed(0)
    stem = build_stem_layer("vit_c_18gf")(embed_dim=768)
    convolutions = [layer for layer in stem.conv if isinstance(layer, nn.Conv2d)]
    for layer in convolutions[1:]:
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / layer.out_channels), rel=0.02)
    assert stem.proj.weight.std().item() == pytest.approx(math.sqrt(1 / 768), rel=0.02)
    assert not stem.proj.bias.any()


def test_other_stems_have_pytorchs_default_initialization() -> None:
    torch.manual_seed(0)
    stem = build_stem_layer("3Conv+1Proj")(img_size=16, patch_size=4, embed_dim=8)
    torch.manual_seed(0)
    layers = [_conv(3, 2, 7), _conv(64, 1, 3), _conv(64, 1, 3), nn.Conv2d(64, 8, 2, 2)]
    for own, reference in zip([*stem.conv, stem.proj], layers, strict=True):
        assert torch.equal(own.weight, reference.weight)
    assert isinstance(stem, Stem) and torch.equal(stem.proj.bias, layers[-1].bias)


@pytest.mark.parametrize("output_fmt", ["NLC", "NHWC", "NCHW"])
@pytest.mark.parametrize("name", ["patchify", "conv", "3Conv+1Proj", "vit_c_1gf", "1Proj+1BN+1ReLU"])
def test_layouts_for_a_gpu_change_a_stem_by_rounding_only(name: str, output_fmt: str) -> None:
    torch.manual_seed(0)
    stem = build_stem_layer(name)(img_size=32, patch_size=16, embed_dim=12, output_fmt=output_fmt)
    images, formats = torch.randn(4, 3, 32, 32), []
    for layer in stem.conv:
        layer.register_forward_hook(lambda *_: formats.append(_[2].is_contiguous(memory_format=torch.channels_last)))
    found = []
    for stem.for_gpu in (False, True):
        formats.clear()
        stem.zero_grad()
        tokens = stem(images)
        tokens.sin().sum().backward()
        found.append((tokens.detach(), [parameter.grad.clone() for parameter in stem.parameters()]))
        assert all(formats) or not stem.for_gpu
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    assert all(p.is_contiguous() and p.grad.is_contiguous() for p in stem.parameters())  # as checkpoints have them


@pytest.mark.parametrize(
    ("name", "patch", "size", "is_refused"),
    [("vit_c_4gf", 16, 16, True), ("vit_c_4gf", 16, 32, False), ("conv", 4, 4, False), ("patchify", 4, 4, False),
     ("1Proj+1BN+1ReLU", 4, 4, True)],
)  # fmt: skip
def test_a_batch_of_one_value_per_channel_is_refused(name: str, patch: int, size: int, is_refused: bool) -> None:
    """PyTorch's own error for it is a traceback."""
    stem = build_stem_layer(name)(img_size=size, patch_size=patch, embed_dim=32)
    if is_refused:
        with pytest.raises(UserError, match=r"train\.batch_size: batch norm cannot train on 1 image"):
            stem(torch.randn(1, 3, size, size))
    else:
        stem(torch.randn(1, 3, size, size))
    assert stem(torch.randn(2, 3, size, size)).shape == (2, (size // patch) ** 2, 32)
    assert stem.eval()(torch.randn(1, 3, size, size)).shape == (1, (size // patch) ** 2, 32)
