"""Vision transformers equal timm's, with any stem and size, and are initialized as in their papers."""

import math

import numpy as np
import pytest
import timm
import torch
from timm.models import VisionTransformer
from torch import nn

from common.models.multi_crop import resample_position
from common.models.networks import ModelConfig, build_network
from common.models.stem_registry import STEM_NAMES


@pytest.mark.parametrize(
    ("name", "width", "depth", "heads"),
    [("vit_tiny", 192, 12, 3), ("vit_small", 384, 12, 6), ("vit_base", 768, 12, 12)],
)
def test_sizes_equal_timms(name: str, width: int, depth: int, heads: int) -> None:
    with torch.device("meta"):
        own, reference = timm.create_model(name), timm.create_model(f"{name}_patch16_224")
    shapes = {key: tensor.shape for key, tensor in reference.state_dict().items()}
    assert {key: tensor.shape for key, tensor in own.state_dict().items()} == shapes
    assert (own.embed_dim, len(own.blocks), own.blocks[0].attn.num_heads) == (width, depth, heads)


def test_patchify_network_equals_timms() -> None:
    own = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=5).eval()
    reference = VisionTransformer(img_size=16, patch_size=4, embed_dim=64, depth=4, num_heads=2, num_classes=5).eval()
    reference.load_state_dict(own.state_dict())
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(own(images), reference(images), rtol=0, atol=0)


@pytest.mark.parametrize("stem", [name for name in STEM_NAMES if not name.startswith("vit_c")])
@pytest.mark.parametrize("patch_size", [8, 4, 2])
def test_every_stem_trains_with_a_small_network(stem: str, patch_size: int) -> None:
    model = build_network(ModelConfig(name="vit_mini", stem=stem, patch_size=patch_size), image_size=16, num_classes=3)
    model(torch.randn(2, 3, 16, 16)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_without_classes_the_normalized_class_token_is_returned() -> None:
    model = build_network(ModelConfig(name="vit_mini", stem="conv"), image_size=16, num_classes=0).eval()
    images = torch.randn(2, 3, 16, 16)
    tokens = model.forward_features(images)
    assert tokens.shape == (2, 17, 64)
    torch.testing.assert_close(model(images), tokens[:, 0], rtol=0, atol=0)
    normalized = model.norm(model.blocks(model._pos_embed(model.patch_embed(images))))
    torch.testing.assert_close(tokens, normalized, rtol=0, atol=0)


def dino_resample(position: np.ndarray, grid: tuple[int, int], *, old_grid: tuple[int, int]) -> np.ndarray:
    """Resample (rows, columns, D) with DINO's formula, point by point: Keys's kernel, a = -3/4, at (i + 1/2) / factor - 1/2."""

    def kernel(x: float) -> float:
        x, a = abs(x), -0.75
        return ((a + 2) * x - (a + 3)) * x * x + 1 if x <= 1 else ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    def taps(index: int, new: int, old: int) -> list[tuple[int, float]]:
        at = (index + 0.5) * old / (new + 0.1) - 0.5
        first = math.floor(at) - 1
        return [(min(max(first + k, 0), old - 1), kernel(at - first - k)) for k in range(4)]

    resampled = np.zeros((*grid, position.shape[2]))
    for i in range(grid[0]):
        for j in range(grid[1]):
            for row, down in taps(i, grid[0], old_grid[0]):
                for column, right in taps(j, grid[1], old_grid[1]):
                    resampled[i, j] += down * right * position[row, column]
    return resampled


@pytest.mark.parametrize(
    ("grid", "old_grid"), [((6, 6), (14, 14)), ((2, 2), (4, 4)), ((3, 5), (4, 6)), ((9, 9), (4, 4)), ((1, 1), (3, 3))]
)
def test_position_embeddings_are_resampled_with_dinos_formula(grid: tuple[int, int], old_grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    position = 0.02 * torch.randn(1, 1 + old_grid[0] * old_grid[1], 8, dtype=torch.float64)
    expected = dino_resample(position[0, 1:].numpy().reshape(*old_grid, 8), grid, old_grid=old_grid).reshape(-1, 8)
    for embedding, tolerance in ((position, 1e-14), (position.float(), 1e-6)):
        resampled = resample_position(embedding, grid, old_grid=old_grid)
        assert torch.equal(resampled[:, 0], embedding[:, 0])
        np.testing.assert_allclose(resampled[0, 1:].numpy(), expected, rtol=0, atol=tolerance)


def test_position_embedding_for_the_same_grid_is_unchanged() -> None:
    position = torch.randn(1, 13, 8)
    assert resample_position(position, (4, 3), old_grid=(4, 3)) is position


@pytest.mark.parametrize("stem", ["patchify", "conv"])
def test_local_views_use_the_resampled_position_embedding(stem: str) -> None:
    model = build_network(ModelConfig(name="vit_mini", stem=stem), image_size=16, num_classes=0, multi_crop=True).eval()
    small = build_network(ModelConfig(name="vit_mini", stem=stem), image_size=8, num_classes=0).eval()
    weights = model.state_dict()
    old = weights["pos_embed"]
    patches = dino_resample(old[0, 1:].double().numpy().reshape(4, 4, 64), (2, 2), old_grid=(4, 4)).reshape(1, 4, 64)
    weights["pos_embed"] = torch.cat([old[:, :1], torch.from_numpy(patches).float()], dim=1)
    small.load_state_dict(weights)
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(model(images), small(images))
    assert model(torch.randn(2, 3, 32, 16)).shape == (2, 64)


def test_output_for_global_views_equals_timms() -> None:
    model = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=0, multi_crop=True).eval()
    fixed = build_network(ModelConfig(name="vit_mini"), image_size=16, num_classes=0).eval()
    fixed.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(model(images), fixed(images))


def test_drop_path_increases_linearly_to_the_configured_rate() -> None:
    model = build_network(ModelConfig(name="vit_mini", drop_path=0.3), image_size=16, num_classes=0)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_deit_initialization_is_truncated_normal() -> None:
    torch.manual_seed(0)
    model = build_network(ModelConfig(name="vit_micro"), image_size=32, num_classes=10)
    for tensor in (model.pos_embed, model.blocks[0].attn.qkv.weight, model.blocks[5].mlp.fc2.weight, model.head.weight):
        assert tensor.std().item() == pytest.approx(0.02, rel=0.1)
    assert model.cls_token.std().item() == pytest.approx(0.02, rel=0.3)
    assert not model.blocks[0].mlp.fc1.bias.any()


def test_early_convolutions_initialization_follows_its_appendix() -> None:
    torch.manual_seed(0)
    model = build_network(ModelConfig(name="vit_p_1gf"), image_size=32, num_classes=10)
    projection, mlp, attention = model.patch_embed.proj, model.blocks[0].mlp, model.blocks[0].attn
    assert projection.weight.std().item() == pytest.approx(math.sqrt(1 / (3 * 16 * 16)), rel=0.02)
    assert not projection.bias.any()
    assert not model.head.weight.any() and not model.head.bias.any() and not model.cls_token.any()
    assert model.pos_embed.std().item() == pytest.approx(0.02, rel=0.1)
    for linear in (mlp.fc1, mlp.fc2, attention.qkv):
        bound = math.sqrt(6 / (linear.in_features + linear.out_features))
        assert 0.99 * bound < linear.weight.abs().max().item() <= bound
    assert 0 < mlp.fc1.bias.abs().max().item() < 1e-5
    assert 0.99 < attention.proj.weight.abs().max().item() * math.sqrt(192) <= 1
    assert not attention.qkv.bias.any() and not attention.proj.bias.any()


def test_vit_c_keeps_the_stems_initialization_and_a_zero_classifier() -> None:
    torch.manual_seed(0)
    model = build_network(ModelConfig(name="vit_c_1gf"), image_size=32, num_classes=10)
    assert model.patch_embed.spec.name == "vit_c_1gf" and len(model.blocks) == 11
    last = [layer for layer in model.patch_embed.conv if isinstance(layer, nn.Conv2d)][-1]
    assert last.weight.std().item() == pytest.approx(math.sqrt(2 / 192), rel=0.02)
    assert not model.head.weight.any()
